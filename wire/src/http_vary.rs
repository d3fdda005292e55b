//! `Vary` (RFC 9110 §12.5.5): one line for all that an answer depends on, whoever found out. Caches that read only the
//! first of several lines have been seen.
//!
//! Thread: any (pure).

use crate::http_fields::list_members;

/// Add `name` to the Vary of `fields`, whose lines become one. `*`, and a name that is there already, stay as they are.
///
/// `store` keeps the value.
pub fn add_vary<'a>(fields: &mut Vec<(&'a str, &'a str)>, name: &str, store: &'a mut String) {
    let said: Vec<&str> = fields.iter().filter(|(other, _)| is_vary(other)).map(|(_, value)| *value).collect();
    let is_said = said
        .iter()
        .flat_map(|value| list_members(value.as_bytes()))
        .any(|member| member == b"*" || member.eq_ignore_ascii_case(name.as_bytes()));
    if is_said {
        return;
    }
    let members = said.iter().copied().filter(|value| !value.trim().is_empty()).chain([name]);
    *store = members.collect::<Vec<_>>().join(", ");
    fields.retain(|(other, _)| !is_vary(other));
    fields.push(("Vary", store));
}

fn is_vary(name: &str) -> bool {
    name.eq_ignore_ascii_case("vary")
}
