//! Where something is measured: a boss, and the workers that run already or some of our own in this process.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::cost::Workers;
use crate::boss::{self, Boss};
use crate::broker::{Broker, Error};
use crate::directory::Node;
use crate::task::{Handler, Task};
use crate::tasks::solve::System;
use crate::worker::{Launcher, Memory, Options, Summary};

/// Workers of our own are there after this, or something is wrong.
const START_LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(2);
/// How long workers that run already have to say so.
const ASK: Duration = Duration::from_millis(400);
/// twice as long each time, if somebody is there.
const ASKED_MAX: usize = 4;

/// One of the two places there are: this process, or a broker.
#[derive(Clone)]
pub struct Ground {
    /// Where tasks go through.
    pub broker: Arc<dyn Broker>,
    /// How the boss behaves.
    pub options: boss::Options,
    /// What workers of our own compute with.
    pub handler: Arc<dyn Handler>,
    /// Workers run there already: they are used as they are, and none of our own is started.
    pub manned: bool,
    /// Where those are that it is used with.
    pub workers: Workers,
    /// Slots of these when they were looked for.
    pub slots: usize,
    /// What workers of our own may take of this machine.
    pub pool: Options,
}

/// Workers of our own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Crew {
    pub workers: usize,
    /// Of each.
    pub slots: usize,
    /// Of one large task.
    pub threads: usize,
    /// The worker's default, if `None`.
    pub prefetch: Option<u16>,
}

impl Crew {
    /// Tasks of one thread that it computes at a time.
    pub(super) fn cores(&self) -> usize {
        self.workers * self.slots
    }

    pub(super) fn prefetch(&self) -> u16 {
        self.prefetch.unwrap_or(u16::try_from(self.slots + 1).unwrap_or(u16::MAX))
    }
}

/// A boss with its workers.
pub(super) struct Stand {
    pub boss: Boss,
    /// Slots of all workers.
    pub slots: usize,
    workers: Vec<AbortOnDropHandle<Result<Summary, Error>>>,
    stop: CancellationToken,
}

impl Ground {
    /// One worker with all that it may take, as `boss` starts it.
    pub(super) fn usual(&self) -> Crew {
        Crew { workers: 1, slots: self.pool.slots, threads: self.pool.threads, prefetch: None }
    }

    /// The workers that solve, and run already.
    pub(super) async fn look(&self, boss: &Boss) -> Result<Vec<Node>, Error> {
        let mut patience = ASK;
        for _ in 0..ASKED_MAX {
            let mut nodes = boss.workers(patience).await?;
            nodes.retain(|node| node.kinds.iter().any(|kind| kind == System::KIND.as_str()));
            // A busy machine answers late.
            if !nodes.is_empty() || boss.consumers(System::KIND.as_str()).await? == 0 {
                return Ok(nodes);
            }
            patience *= 2;
        }
        Err(Error::Lost(
            "somebody consumes from the work queue who does not say what it is; stop it, and try again".into(),
        ))
    }

    /// Opens a stand: with `crew`, unless workers run there already. Returns when all are consuming.
    pub(super) async fn open(&self, crew: Crew) -> Result<Stand, Error> {
        let stop = CancellationToken::new();
        let boss = Boss::connect(self.broker.clone(), self.options).await?;
        if self.manned {
            let slots = self.look(&boss).await?.iter().map(|node| node.slots as usize).sum::<usize>();
            return Ok(Stand { boss, slots: slots.max(1), workers: Vec::new(), stop });
        }
        let launcher = Launcher::new(self.broker.clone());
        let memory = Memory::new(self.pool.memory_bytes);
        let start = |_| {
            let options = Options {
                slots: crew.slots,
                threads: crew.threads.min(crew.slots),
                prefetch: crew.prefetch(),
                memory: Some(memory.clone()),
                quorum: self.options.quorum,
                ..Options::default()
            };
            AbortOnDropHandle::new(launcher.start(vec![self.handler.clone()], options, stop.clone()))
        };
        let mut stand = Stand { boss, slots: crew.cores(), workers: (0..crew.workers).map(start).collect(), stop };
        let there = tokio::time::timeout(START_LIMIT, stand.wait_for(crew.workers)).await;
        let late = || Err(Error::Lost(format!("no worker of the bench is consuming after {START_LIMIT:?}")));
        there.unwrap_or_else(|_| late())?;
        Ok(stand)
    }
}

impl Stand {
    async fn wait_for(&mut self, workers: usize) -> Result<(), Error> {
        while (self.boss.consumers(System::KIND.as_str()).await? as usize) < workers {
            if let Some(ended) = self.workers.iter_mut().find(|worker| worker.is_finished()) {
                let why = match ended.await {
                    Ok(Err(error)) => return Err(error),
                    _ => "a worker of the bench ended before it began",
                };
                return Err(Error::Lost(why.to_owned()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Stops the boss, then the workers of our own.
    pub(super) async fn close(self) {
        self.boss.close().await;
        self.stop.cancel();
        for worker in self.workers {
            // It was told to stop; what it says of itself is of no use here.
            let _ = worker.await;
        }
    }
}
