//! `handshake`: as many clients as there are connections, each on a thread, shake hands and leave, again and again.

use crate::link::Link;
use crate::{Plan, Tally, WARM_UP};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

pub fn run(plan: &Plan) {
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(plan.seconds);
    let all = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..plan.connections {
            scope.spawn(|| {
                let mut own = Tally::default();
                while Instant::now() < end {
                    let began = Instant::now();
                    let done = Link::connect(plan.port, plan.tls.as_ref()).and_then(|mut link| {
                        link.wait_for_tickets()?;
                        Ok(link)
                    });
                    match done {
                        Ok(link) => link.close(),
                        Err(_) => own.errors += 1,
                    }
                    if began >= begin {
                        own.received += 1;
                        own.latencies_us.push(began.elapsed().as_micros() as u32);
                    }
                }
                let mut all = all.lock().expect("no panic");
                all.received += own.received;
                all.errors += own.errors;
                all.latencies_us.append(&mut own.latencies_us);
            });
        }
    });
    let mut tally = all.into_inner().expect("no panic");
    tally.received -= tally.errors.min(tally.received);
    plan.report(&mut tally, begin.elapsed().as_secs_f64());
}
