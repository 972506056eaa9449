//! The table and its clock, over workers that do nothing: the test offers the tasks itself. Time stands still but for
//! where everybody waits on it.

use bytes::Bytes;
use futures_util::{FutureExt, poll};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::task::{Encoded, Format, MAX_PARAMS, Plan, Task, TaskId, Watch};
use crate::worker::Claim;

const SECOND: Duration = Duration::from_secs(1);

struct Echo;

impl Task for Echo {
    const KIND: Kind = Kind::from_static("echo");
    type Answer = ();

    fn encode(self, _: Format) -> Result<Encoded, TaskError> {
        Ok(Encoded { blob: Blob::default(), shared: false, flops: 0, answer_bytes: 0 })
    }

    fn decode_answer(_: &[u8], answer: Blob) -> Result<(), TaskError> {
        if answer.payload.concat() == b"wrong" { Err(TaskError::Invalid("it is wrong".into())) } else { Ok(()) }
    }
}

struct Planner(Kind);

impl Handler for Planner {
    fn kind(&self) -> Kind {
        self.0.clone()
    }

    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, _: Format, _: &[u8], _: u64, _: usize) -> Result<Plan, TaskError> {
        Ok(Plan { memory_bytes: 0, threads: 1, shared: None })
    }

    fn run(&self, _: Blob, _: usize, _: &Watch) -> Result<Blob, TaskError> {
        Err(TaskError::Shutdown)
    }
}

/// A session that was begun.
struct Begun {
    fronts: Vec<Arc<Front>>,
    stop: CancellationToken,
    /// Ends its worker with an error.
    break_it: oneshot::Sender<Error>,
}

impl Begun {
    fn offer(&self, watch: &Watch) -> oneshot::Receiver<Verdict> {
        self.fronts[0].offer(blob("task"), watch)
    }
}

fn leases(sessions_max: usize) -> (Leases, mpsc::UnboundedReceiver<Begun>) {
    let (tell, begun) = mpsc::unbounded_channel();
    let start = move |fronts, _, stop: CancellationToken| {
        let (break_it, broken) = oneshot::channel();
        let _ = tell.send(Begun { fronts, stop: stop.clone(), break_it });
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => Ok(Summary { done: 0, failed: 0 }),
                Ok(error) = broken => Err(error),
            }
        })
    };
    let offers = vec![
        Offer::new::<Echo>(Arc::new(Planner(Echo::KIND))),
        Offer::new::<Echo>(Arc::new(Planner(Kind::from_static("other")))),
    ];
    let options = Options { sessions_max, memory: Memory::new(1 << 20), ..Options::default() };
    (Leases::with(Box::new(start), offers, options), begun)
}

fn blob(payload: &'static str) -> Blob {
    Blob { payload: vec![Bytes::from(payload)], ..Blob::default() }
}

fn minion(name: &str) -> Minion {
    Minion { claim: Claim { name: name.into(), ..Claim::default() }, kinds: vec!["echo".into()] }
}

fn is_back(verdict: Result<Verdict, oneshot::error::RecvError>, how: HandBack) {
    assert!(matches!(verdict, Ok(Verdict::Back(back)) if back == how), "{verdict:?}");
}

/// A lease of a task that was just offered.
async fn leased(
    leases: &Leases,
    begun: &mut mpsc::UnboundedReceiver<Begun>,
) -> (Begun, Lease, Watch, oneshot::Receiver<Verdict>) {
    assert!(leases.next(&minion("m"), Duration::ZERO).await.unwrap().is_none());
    let (session, watch) = (begun.recv().await.unwrap(), Watch::over(TaskId(7), 2, None));
    let verdict = session.offer(&watch);
    let lease = leases.next(&minion("m"), SECOND).await.unwrap().unwrap();
    (session, lease, watch, verdict)
}

#[tokio::test(start_paused = true)]
async fn a_lease_lives_as_long_as_it_is_renewed_and_no_longer() {
    let (leases, mut begun) = leases(9);
    let (session, lease, watch, mut verdict) = leased(&leases, &mut begun).await;
    assert_eq!((lease.leased.task, lease.leased.attempt, lease.expires_in), (TaskId(7), 2, 30 * SECOND));
    for step in 1..=3 {
        tokio::time::sleep(29 * SECOND).await;
        let renewed = leases.renew(lease.id, Some(f64::from(step) / 4.0)).unwrap();
        assert_eq!(renewed, Renewed { expires_in: 30 * SECOND, stopped: None });
        assert_eq!(watch.share(), f64::from(step) / 4.0);
    }
    assert!(poll!(&mut verdict).is_pending());
    let from = Instant::now();
    is_back(verdict.await, HandBack::Counted);
    assert_eq!(from.elapsed().as_secs(), 30);
    assert!(session.stop.is_cancelled(), "its worker is taken for dead");
    let over = leases.renew(lease.id, None);
    assert!(matches!(over, Err(LeaseError::Ended { how: Ended::Expired, .. })), "{over:?}");
    assert_eq!(leases.counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_nobody_asks_for_goes_back_after_the_grace() {
    let (leases, mut begun) = leases(9);
    assert!(leases.next(&minion("m"), 10 * SECOND).await.unwrap().is_none());
    let from = Instant::now();
    let session = begun.recv().await.unwrap();
    let verdict = session.offer(&Watch::default());
    is_back(verdict.await, HandBack::Uncounted);
    assert_eq!(from.elapsed().as_secs(), 2);
    assert!(session.stop.is_cancelled());
    is_back(session.offer(&Watch::default()).await, HandBack::Uncounted);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_leaves_its_task_to_the_next() {
    let (leases, mut begun) = leases(9);
    let (m, watch) = (minion("m"), Watch::default());
    let session = {
        let mut request = Box::pin(leases.next(&m, 60 * SECOND));
        assert!(poll!(&mut request).is_pending());
        let session = begun.recv().await.unwrap();
        let _verdict = session.offer(&watch);
        session
        // The request was told, and is dropped before it hears.
    };
    tokio::time::sleep(SECOND).await;
    assert!(leases.next(&m, Duration::ZERO).await.unwrap().is_some());
    assert!(!session.stop.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_second_request_takes_the_place_of_the_first_and_a_lease_of_both() {
    let (leases, mut begun) = leases(9);
    let m = minion("m");
    let mut first = Box::pin(leases.next(&m, 60 * SECOND));
    assert!(poll!(&mut first).is_pending());
    let mut second = Box::pin(leases.next(&m, 60 * SECOND));
    assert!(poll!(&mut second).is_pending());
    let session = begun.recv().await.unwrap();
    let verdict = session.offer(&Watch::default());
    assert!(matches!(first.await, Err(LeaseError::Replaced)));
    let lease = second.await.unwrap().unwrap();
    let third = leases.next(&m, SECOND).await;
    assert!(matches!(third, Err(LeaseError::Busy { expires_in }) if expires_in == 30 * SECOND), "{third:?}");
    leases.give_back(lease.id).unwrap();
    is_back(verdict.await, HandBack::Uncounted);
    assert!(begun.try_recv().is_err(), "one session for all of them");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_stopped_is_told_at_the_renewal_and_not_leased_anew() {
    let (leases, mut begun) = leases(9);
    let (session, lease, watch, verdict) = leased(&leases, &mut begun).await;
    watch.cancel();
    let told = leases.renew(lease.id, Some(0.5)).unwrap();
    assert_eq!(told, Renewed { expires_in: Duration::ZERO, stopped: Some(TaskError::Cancelled) });
    assert!(matches!(verdict.await, Ok(Verdict::Outcome(Err(TaskError::Cancelled)))));
    let late = leases.complete(lease.id, blob("answer")).await;
    assert!(matches!(late, Err(LeaseError::Ended { how: Ended::Stopped(TaskError::Cancelled), .. })), "{late:?}");
    let stopped = session.offer(&watch);
    assert!(leases.next(&minion("m"), SECOND).await.unwrap().is_none());
    assert!(matches!(stopped.await, Ok(Verdict::Outcome(Err(TaskError::Cancelled)))));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_answer_leaves_the_lease_open_and_a_right_one_ends_it() {
    let (leases, mut begun) = leases(9);
    let (_session, lease, _watch, verdict) = leased(&leases, &mut begun).await;
    tokio::time::sleep(29 * SECOND).await;
    let other_form = Blob { format: Format::Json, ..blob("answer") };
    let long = Blob { params: vec![0; MAX_PARAMS + 1], ..blob("answer") };
    for wrong in [blob("wrong"), other_form, long] {
        let refused = leases.complete(lease.id, wrong).await;
        assert!(matches!(refused, Err(LeaseError::Refused(TaskError::Invalid(_)))), "{refused:?}");
    }
    tokio::time::sleep(29 * SECOND).await;
    leases.complete(lease.id, blob("answer")).await.unwrap();
    assert!(matches!(verdict.await, Ok(Verdict::Outcome(Ok(answer))) if answer.payload.concat() == b"answer"));
    let again = leases.complete(lease.id, blob("answer")).await;
    assert!(matches!(again, Err(LeaseError::Ended { how: Ended::Answered, .. })), "{again:?}");
    let unknown = leases.renew(LeaseId::random(), None);
    assert!(matches!(unknown, Err(LeaseError::Unknown(_))), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_does_not_end_while_an_answer_is_checked() {
    let (leases, mut begun) = leases(9);
    let (_session, lease, _watch, mut verdict) = leased(&leases, &mut begun).await;
    leases.shared.table().begin_answer(lease.id, Instant::now()).unwrap();
    tokio::time::sleep(3600 * SECOND).await;
    assert!(poll!(&mut verdict).is_pending());
    assert!(matches!(leases.complete(lease.id, blob("answer")).await, Err(LeaseError::Answering(_))));
    // Whoever sent it is gone.
    drop(Reopen { shared: &leases.shared, lease: lease.id });
    is_back(verdict.await, HandBack::Counted);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_an_outcome_and_short_enough_to_travel() {
    let (leases, mut begun) = leases(9);
    let (_session, lease, _watch, verdict) = leased(&leases, &mut begun).await;
    leases.fail(lease.id, TaskError::Invalid("é".repeat(50_000))).await.unwrap();
    let Ok(Verdict::Outcome(Err(TaskError::Invalid(text)))) = verdict.await else { panic!("another outcome") };
    assert_eq!(text.chars().count(), 1000);
}

#[tokio::test(start_paused = true)]
async fn kinds_are_checked_and_other_kinds_are_another_session() {
    let (leases, mut begun) = leases(9);
    for kinds in [vec![], vec!["echo".to_owned(), "paint".to_owned()]] {
        let refused = leases.next(&Minion { kinds, ..minion("m") }, SECOND).await.unwrap_err();
        assert!(matches!(&refused, LeaseError::Kinds { known, .. } if known == "echo, other"), "{refused:?}");
    }
    assert!(leases.next(&minion("m"), SECOND).await.unwrap().is_none());
    let both = Minion { kinds: vec!["other".into(), "echo".into(), "echo".into()], ..minion("m") };
    assert!(leases.next(&both, SECOND).await.unwrap().is_none());
    let (first, second) = (begun.recv().await.unwrap(), begun.recv().await.unwrap());
    assert!(first.stop.is_cancelled() && !second.stop.is_cancelled());
    assert_eq!((first.fronts.len(), second.fronts.len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_sessions_than_there_may_be() {
    let (leases, _begun) = leases(1);
    assert!(leases.next(&minion("one"), SECOND).await.unwrap().is_none());
    let full = leases.next(&minion("two"), SECOND).await;
    assert!(matches!(full, Err(LeaseError::Full { max: 1 })), "{full:?}");
    tokio::time::sleep(3 * SECOND).await;
    assert!(leases.next(&minion("two"), SECOND).await.unwrap().is_none(), "the first has gone");
}

#[tokio::test(start_paused = true)]
async fn closing_hands_everything_back_and_tells_who_waits() {
    let (leases, mut begun) = leases(9);
    let (session, lease, _watch, verdict) = leased(&leases, &mut begun).await;
    let other = minion("other");
    let mut waiting = Box::pin(leases.next(&other, 60 * SECOND));
    assert!(poll!(&mut waiting).is_pending());
    leases.close().await;
    is_back(verdict.await, HandBack::Uncounted);
    assert!(session.stop.is_cancelled());
    assert!(matches!(waiting.await, Err(LeaseError::Closing)));
    let ended = leases.complete(lease.id, blob("answer")).await;
    assert!(matches!(ended, Err(LeaseError::Ended { how: Ended::Closed, .. })), "{ended:?}");
    assert!(matches!(leases.next(&minion("m"), SECOND).await, Err(LeaseError::Closing)));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_says_why() {
    let (leases, mut begun) = leases(9);
    let m = minion("m");
    let mut waiting = Box::pin(leases.next(&m, 60 * SECOND));
    assert!(poll!(&mut waiting).is_pending());
    let session = begun.recv().await.unwrap();
    session.break_it.send(Error::Lost("no luck".into())).unwrap();
    let told = waiting.await;
    assert!(matches!(&told, Err(LeaseError::Broker(error)) if error.to_string().contains("no luck")), "{told:?}");
    assert!(leases.next(&m, SECOND).now_or_never().is_none(), "a new session is begun");
    assert!(begun.recv().now_or_never().is_some());
}

#[test]
fn a_lease_id_is_read_as_it_is_written() {
    let id = LeaseId::random();
    assert_eq!(id.to_string().parse(), Ok(id));
    for wrong in ["", "+0000000000000000000000000000001", "g"] {
        assert!(wrong.parse::<LeaseId>().is_err(), "{wrong:?}");
    }
}
