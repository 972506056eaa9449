//! Rabbitry: a worker pool for heavy numeric work on RabbitMQ.

pub mod broker;
pub mod files;
pub mod task;
pub mod tasks;
