//! Who is subscribed to what, on one server.
//!
//! Thread: whoever holds the reactor.

use crate::number::{Number, NumberSet};
use std::collections::HashMap;
use std::sync::Arc;

/// A topic's name; its members hold it too.
pub type Topic = Arc<str>;

/// A topic exists while it has members.
#[derive(Default)]
pub struct Topics {
    members: HashMap<Topic, NumberSet>,
}

impl Topics {
    /// The topic, if `number` was no member before.
    pub fn subscribe(&mut self, number: Number, name: &str) -> Option<Topic> {
        let topic = match self.members.get_key_value(name) {
            Some((topic, _)) => Arc::clone(topic),
            None => Topic::from(name),
        };
        let is_new = self.members.entry(Arc::clone(&topic)).or_default().insert(number);
        is_new.then_some(topic)
    }

    /// False: it was no member.
    pub fn unsubscribe(&mut self, number: Number, name: &str) -> bool {
        let Some(members) = self.members.get_mut(name) else {
            return false;
        };
        let was_member = members.remove(&number);
        if members.is_empty() {
            self.members.remove(name);
        }
        was_member
    }

    pub fn members(&self, name: &str) -> impl Iterator<Item = Number> {
        self.members.get(name).into_iter().flatten().copied()
    }

    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.members.iter().map(|(topic, members)| (&**topic, members.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_lives_as_long_as_it_has_members() {
        let mut topics = Topics::default();
        assert_eq!(topics.subscribe(1, "a").as_deref(), Some("a"));
        assert_eq!(topics.subscribe(1, "a"), None);
        assert!(topics.subscribe(2, "a").is_some());
        assert_eq!(topics.counts().collect::<Vec<_>>(), [("a", 2)]);
        assert!(!topics.unsubscribe(3, "a"));
        assert!(topics.unsubscribe(1, "a"));
        assert_eq!(topics.members("a").collect::<Vec<_>>(), [2]);
        assert!(topics.unsubscribe(2, "a"));
        assert!(!topics.unsubscribe(2, "a"));
        assert_eq!(topics.counts().count(), 0);
    }
}
