//! Integration tests, one binary: they share one private RabbitMQ node.

mod conformance;
mod dead;
mod end_to_end;
mod faults;
mod hostile;
mod hostile_input;
mod house;
mod http;
mod large;
mod leases;
mod pool;
mod programs;
mod protocol;
mod rabbitmq;
mod recovery;
mod render;
mod simulation;
