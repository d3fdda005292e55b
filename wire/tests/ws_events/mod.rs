//! Incoming events as owned values, so that two readings of the same bytes can be compared.

use wire::ws_message::{Incoming, MessageReader};

/// An [`Incoming`] that outlives its input. Whether it was copied does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Failed(u16),
}

impl From<Incoming<'_>> for Event {
    fn from(incoming: Incoming) -> Self {
        match incoming {
            Incoming::Text(it) => Self::Text(str::from_utf8(&it).expect("text is UTF-8").to_owned()),
            Incoming::Binary(it) => Self::Binary(it.into_vec()),
            Incoming::Ping(it) => Self::Ping(it.into_vec()),
            Incoming::Pong(it) => Self::Pong(it.into_vec()),
            Incoming::Close { code, reason } => Self::Close(code, reason.into_owned()),
        }
    }
}

/// Reads inputs one after the other; an error is the last event. Events before it in the same input are kept.
pub fn read_inputs<'a>(reader: &mut MessageReader, inputs: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut events = Vec::new();
    for input in inputs {
        let mut input = input.to_vec();
        let (mut used, mut stalls) = (0, 0);
        loop {
            match reader.read(&mut input[used..]) {
                Ok((taken, Some(event))) => {
                    used += taken;
                    events.push(event.into());
                }
                Ok((taken, None)) => {
                    used += taken;
                    stalls += usize::from(taken == 0);
                    assert!(stalls < 100_000, "None for ever, yet input was left over");
                    if used == input.len() && !reader.has_more() {
                        break;
                    }
                }
                Err(refusal) => {
                    assert_eq!(reader.read(&mut []).map(drop), Err(refusal), "read on after an error");
                    events.push(Event::Failed(refusal.code));
                    return events;
                }
            }
        }
    }
    events
}
