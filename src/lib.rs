//! Rabbitry: a worker pool for heavy numeric work on RabbitMQ.

pub mod boss;
pub mod broker;
pub mod directory;
pub mod task;
pub mod transport;
pub mod wire;
pub mod worker;
