//! Workers by the number, for somebody who has no business with brokers.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Options, Summary};
use crate::broker::{Broker, Error};
use crate::task::Handler;

/// Starts workers on one broker.
#[derive(Clone)]
pub struct Launcher {
    broker: Arc<dyn Broker>,
}

impl Launcher {
    /// Workers of this broker.
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Launcher { broker }
    }

    /// Starts a worker of its own connection, which is [`super::run`] until `stop`. The result is that function's; dropping
    /// it lets the worker be.
    pub fn start(
        &self,
        handlers: Vec<Arc<dyn Handler>>,
        options: Options,
        stop: CancellationToken,
    ) -> JoinHandle<Result<Summary, Error>> {
        tokio::spawn(super::run(self.broker.clone(), handlers, options, stop))
    }
}
