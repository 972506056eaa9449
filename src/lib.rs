//! Rabbitry: a worker pool for heavy numeric work on RabbitMQ, in one process or on many machines.
//!
//! A [`boss::Boss`] publishes tasks and awaits their outcomes; a [`worker`] computes them; a [`broker::Broker`] is between
//! them, RabbitMQ or this process. A kind of task is a folder under [`tasks`].
//!
//! ```
//! use std::sync::Arc;
//! use rabbitry::{boss::Boss, broker::embedded::EmbeddedBroker, tasks, worker};
//! use rabbitry::tasks::solve::{Matrix, Order, System};
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let broker = Arc::new(EmbeddedBroker::new());
//! let stop = tokio_util::sync::CancellationToken::new();
//! tokio::spawn(worker::run(broker.clone(), tasks::handlers(1), worker::Options::default(), stop.clone()));
//!
//! let boss = Boss::connect(broker, Default::default()).await?;
//! let a = Matrix::new(2, 2, Order::RowMajor, vec![2.0, 0.0, 0.0, 4.0])?;
//! let b = Matrix::vector(vec![2.0, 2.0]);
//! let outcome = boss.submit(System::new(a, b), Default::default()).await?.outcome().await;
//! assert_eq!(outcome.result?.x.as_slice(), [1.0, 0.5]);
//! stop.cancel();
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bench;
pub mod boss;
pub mod bridge;
pub mod broker;
pub mod cli;
pub mod command;
pub mod directory;
pub mod files;
pub mod health;
pub mod render;
pub mod task;
pub mod tasks;
pub mod telemetry;
pub mod transport;
pub mod wire;
pub mod worker;
