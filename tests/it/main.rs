//! Integration tests, one binary: they share one private RabbitMQ node.

mod conformance;
mod rabbitmq;
