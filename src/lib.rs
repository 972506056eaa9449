//! Rabbitry: a worker pool for heavy numeric work on RabbitMQ.

pub mod broker;
pub mod task;
pub mod transport;
pub mod wire;
pub mod worker;
