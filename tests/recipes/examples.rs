//! The programs of `examples/` prove what they say.
#![allow(dead_code)] // their main functions

use super::Place;

#[path = "../../examples/config_center.rs"]
mod config_center;
#[path = "../../examples/distributed_lock.rs"]
mod distributed_lock;
#[path = "../../examples/service_registry.rs"]
mod service_registry;
#[path = "../../examples/work_queue.rs"]
mod work_queue;

#[test]
fn the_examples_prove_what_they_say() {
    for run in [config_center::run, distributed_lock::run, service_registry::run, work_queue::run] {
        run(&Place::new().server.address.to_string()).expect("it works");
    }
}
