mod busy;
mod damage;
mod speed;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::boss::Priority;
use crate::task::{Format, TaskError, WorkerRef};

const NO_LIMIT: u64 = u64::MAX;

fn open(folder: &Path) -> (Spool, Vec<Found>) {
    Spool::open(folder, NO_LIMIT).unwrap()
}

fn task(id: u128, payload: &[Bytes]) -> Arc<TaskRecord> {
    Arc::new(TaskRecord {
        id: TaskId(id),
        kind: "solve".into(),
        format: Format::Binary,
        params: vec![1, 2, 3],
        flops: 1000,
        answer_bytes: 80,
        priority: Priority::High,
        deadline_unix_ms: Some(7),
        created_unix_ms: 6,
        idempotency: Some(Idempotency { key: "k".into(), fingerprint: 5 }),
        payload_bytes: payload.iter().map(|piece| piece.len() as u64).sum(),
    })
}

fn outcome(payload: &[Bytes]) -> OutcomeRecord {
    OutcomeRecord {
        finished_unix_ms: 9,
        result: Ok(AnswerHead { format: Format::Binary, params: vec![4] }),
        worker: Some(WorkerRef { id: "a-1-2".into(), host: "a".into() }),
        compute_seconds: 0.5,
        payload_bytes: payload.iter().map(|piece| piece.len() as u64).sum(),
    }
}

fn failure() -> OutcomeRecord {
    OutcomeRecord { result: Err(TaskError::Singular { pivot: 3 }), worker: None, ..outcome(&[]) }
}

fn bytes(payload: &'static [u8]) -> Vec<Bytes> {
    vec![Bytes::from_static(payload)]
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Names without the lock's.
fn files(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name != folder::LOCK).collect()
}

fn file_bytes(folder: &Path) -> u64 {
    files(folder).iter().map(|name| std::fs::metadata(folder.join(name)).unwrap().len()).sum()
}

fn name(id: u128, extension: &str) -> String {
    format!("{}.{extension}", TaskId(id))
}

fn records() -> impl Strategy<Value = TaskRecord> {
    (
        ("[a-z]{1,32}", any::<bool>(), proptest::collection::vec(any::<u8>(), 0..1024), any::<u64>(), any::<u64>()),
        (0u8..3, any::<Option<u64>>(), any::<u64>(), proptest::option::of((".{0,200}", any::<u64>()))),
    )
        .prop_map(
            |((kind, json, params, flops, answer_bytes), (priority, deadline_unix_ms, created_unix_ms, key))| {
                TaskRecord {
                    id: TaskId::random(),
                    kind,
                    format: if json { Format::Json } else { Format::Binary },
                    params,
                    flops,
                    answer_bytes: answer_bytes / 1024,
                    priority: [Priority::Low, Priority::Normal, Priority::High][usize::from(priority)],
                    deadline_unix_ms,
                    created_unix_ms,
                    idempotency: key.map(|(key, fingerprint)| Idempotency { key, fingerprint }),
                    payload_bytes: 0,
                }
            },
        )
}

/// Pieces from none to some, from empty to longer than a step of writing, and whether the task gets an outcome.
fn payloads() -> impl Strategy<Value = (Vec<Bytes>, bool)> {
    let piece = (prop_oneof![0usize..100, 65_000usize..66_000, 262_000usize..600_000], any::<u8>())
        .prop_map(|(length, seed)| (0..length).map(|at| (at as u8).wrapping_mul(seed)).collect::<Bytes>());
    (proptest::collection::vec(piece, 0..4), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_was_put_and_finished_is_found_again(tasks in proptest::collection::vec((records(), payloads()), 1..5)) {
        let folder = tempfile::tempdir().unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let (spool, found) = open(folder.path());
            assert_eq!(found, []);
            let mut expected = Vec::new();
            for (record, (pieces, finished)) in &tasks {
                let payload_bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
                let task = Arc::new(TaskRecord { payload_bytes, ..record.clone() });
                spool.put(task.clone(), pieces.clone()).await.unwrap();
                assert_eq!(spool.payload(task.id).await.unwrap(), pieces.concat());
                let outcome = finished.then(|| outcome(pieces));
                if let Some(outcome) = &outcome {
                    spool.finish(task.id, outcome, pieces.clone()).await.unwrap();
                }
                expected.push(Found { task, outcome });
            }
            let size = spool.bytes();
            assert_eq!(size, file_bytes(folder.path()));
            drop(spool);

            let (spool, found) = open(folder.path());
            assert_eq!(found, expected);
            assert_eq!(spool.bytes(), size);
            for (found, (_, (pieces, finished))) in found.iter().zip(&tasks) {
                let (id, whole) = (found.task.id, pieces.concat());
                if *finished {
                    assert_eq!(spool.answer(id).await.unwrap(), whole);
                } else {
                    assert_eq!(spool.payload(id).await.unwrap(), whole);
                }
                spool.remove(id).await.unwrap();
            }
            assert_eq!((spool.bytes(), files(folder.path())), (0, vec![]));
        });
    }

    #[test]
    fn any_record_is_an_error_and_not_a_panic(tail in any::<Vec<u8>>()) {
        let mut head = record::encode_task(1, &task(1, &[])).unwrap();
        head.truncate(record::FRAME_BYTES + 8);
        head.extend(tail);
        let _ = record::decode(&with_checksum(head));
    }
}

/// Makes a head's checksum right, so that what is behind it is looked at.
fn with_checksum(mut head: Vec<u8>) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..10]);
    crc.update(&head[record::FRAME_BYTES..]);
    head[10..14].copy_from_slice(&crc.finalize().to_le_bytes());
    head
}

#[tokio::test]
async fn finish_drops_the_payload_and_keeps_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let (first, second) = (task(1, &bytes(b"system")), task(2, &bytes(b"other")));
    spool.put(first.clone(), bytes(b"system")).await.unwrap();
    spool.put(second.clone(), bytes(b"other")).await.unwrap();
    spool.finish(first.id, &outcome(&bytes(b"x")), bytes(b"x")).await.unwrap();
    spool.finish(second.id, &failure(), vec![]).await.unwrap();
    assert_eq!(files(folder.path()), [name(1, "outcome"), name(2, "outcome")]);
    assert!(matches!(spool.payload(first.id).await, Err(SpoolError::Unknown { .. })));
    assert_eq!(spool.answer(second.id).await.unwrap(), "");
    drop(spool);
    let (spool, found) = open(folder.path());
    assert_eq!(found[0], Found { task: first.clone(), outcome: Some(outcome(&bytes(b"x"))) });
    assert_eq!(found[1], Found { task: second, outcome: Some(failure()) });
    assert_eq!(spool.answer(first.id).await.unwrap(), "x");
    assert_eq!(spool.bytes(), file_bytes(folder.path()));
}

#[test]
fn the_owners_name_is_made_once_and_anew_if_it_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| text.starts_with("boss-").then(|| text.to_owned());
    let owner = |fresh: &str| open(folder.path()).0.owner(read, fresh.to_owned(), String::as_str).unwrap();
    assert_eq!([owner("boss-1"), owner("boss-2")], ["boss-1", "boss-1"]);
    for wrong in [b"nobody".as_slice(), b"", &[0xff; 10], &[b'b'; 1000]] {
        std::fs::write(folder.path().join("boss.id"), wrong).unwrap();
        assert_eq!([owner("boss-3"), owner("boss-4")], ["boss-3", "boss-3"]);
    }
}

#[tokio::test]
async fn a_task_awaits_its_answer_until_it_is_there_or_the_task_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    for id in [1, 2] {
        spool.put(task(id, &[]), vec![]).await.unwrap();
    }
    let ids = [1, 2, 3].map(TaskId);
    let awaits = spool.awaits();
    assert_eq!(ids.map(&awaits), [Some(80), Some(80), None]);
    spool.finish(TaskId(1), &failure(), vec![]).await.unwrap();
    assert_eq!(ids.map(&awaits), [None, Some(80), None]);
    drop(spool);
    assert_eq!(ids.map(&awaits), [None; 3], "it is closed");
    let (spool, _) = open(folder.path());
    let awaits = spool.awaits();
    assert_eq!(ids.map(&awaits), [None, Some(80), None]);
    spool.remove(TaskId(2)).await.unwrap();
    assert_eq!(ids.map(&awaits), [None; 3]);
}

#[tokio::test]
async fn the_first_of_an_id_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let first = task(1, &bytes(b"first"));
    spool.put(first.clone(), bytes(b"first")).await.unwrap();
    let again = spool.put(task(1, &bytes(b"second")), bytes(b"second")).await;
    assert_eq!(again, Err(SpoolError::Exists { id: first.id, what: "a record" }));
    assert_eq!(spool.payload(first.id).await.unwrap(), "first");
    spool.finish(first.id, &outcome(&bytes(b"1")), bytes(b"1")).await.unwrap();
    let again = spool.finish(first.id, &outcome(&bytes(b"22")), bytes(b"22")).await;
    assert_eq!(again, Err(SpoolError::Exists { id: first.id, what: "an outcome" }));
    assert_eq!(spool.answer(first.id).await.unwrap(), "1");
    assert_eq!(spool.bytes(), file_bytes(folder.path()));
}

#[tokio::test]
async fn what_is_removed_is_gone_and_what_is_not_there_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    for id in [1, 2] {
        spool.put(task(id, &bytes(b"abc")), bytes(b"abc")).await.unwrap();
    }
    spool.finish(TaskId(2), &failure(), vec![]).await.unwrap();
    for id in [1, 2, 2, 3] {
        spool.remove(TaskId(id)).await.unwrap();
    }
    assert_eq!((spool.bytes(), files(folder.path())), (0, vec![]));
    let unknown = |what| SpoolError::Unknown { id: TaskId(1), what };
    assert_eq!(spool.payload(TaskId(1)).await, Err(unknown("the record")));
    assert_eq!(spool.answer(TaskId(1)).await, Err(unknown("the record")));
    assert_eq!(spool.finish(TaskId(1), &failure(), vec![]).await, Err(unknown("the record")));
    assert_eq!(spool.bytes(), 0);
    spool.put(task(1, &bytes(b"again")), bytes(b"again")).await.unwrap();
    assert_eq!(spool.answer(TaskId(1)).await, Err(unknown("the answer")));
    assert_eq!(spool.payload(TaskId(1)).await.unwrap(), "again");
}

#[tokio::test]
async fn the_limit_counts_answers_to_come_and_never_refuses_them() {
    let folder = tempfile::tempdir().unwrap();
    let payload = || vec![Bytes::from(vec![1; 6000])];
    let record = |id| Arc::new(TaskRecord { answer_bytes: 10_000, ..(*task(id, &payload())).clone() });
    let (spool, _) = Spool::open(folder.path(), 50_000).unwrap();
    spool.put(record(1), payload()).await.unwrap();
    spool.put(record(2), payload()).await.unwrap();
    let used = spool.bytes();
    let full = spool.put(record(3), payload()).await.unwrap_err();
    let SpoolError::Full { needed_bytes, used_bytes, limit_bytes } = full else { panic!("{full}") };
    assert_eq!((limit_bytes, used_bytes), (50_000, 2 * needed_bytes));
    assert!((20_000..21_000).contains(&needed_bytes), "{needed_bytes}");
    assert_eq!((spool.bytes(), files(folder.path()).len()), (used, 2), "nothing was written");

    // A finished task holds its answer only; what was kept for a longer one is free again.
    let answer = || vec![Bytes::from(vec![1; 100])];
    spool.finish(TaskId(1), &outcome(&answer()), answer()).await.unwrap();
    spool.put(record(3), payload()).await.unwrap();
    spool.finish(TaskId(2), &outcome(&payload()), payload()).await.unwrap();
    let greedy = TaskRecord { answer_bytes: u64::MAX, ..(*task(4, &[])).clone() };
    assert!(matches!(spool.put(Arc::new(greedy), vec![]).await, Err(SpoolError::Full { .. })));
    assert_eq!(spool.bytes(), file_bytes(folder.path()));

    // Room is kept across a restart, too; and what is there stays, whatever the limit.
    drop(spool);
    let (spool, found) = Spool::open(folder.path(), 1000).unwrap();
    assert_eq!(found.len(), 3);
    spool.finish(TaskId(3), &outcome(&payload()), payload()).await.unwrap();
    assert!(matches!(spool.put(task(5, &[]), vec![]).await, Err(SpoolError::Full { .. })));
    for id in 1..4 {
        spool.remove(TaskId(id)).await.unwrap();
    }
    drop(spool);
    let (spool, _) = Spool::open(folder.path(), 50_000).unwrap();
    spool.put(record(1), payload()).await.unwrap();
    spool.remove(TaskId(1)).await.unwrap();
    spool.put(record(1), payload()).await.unwrap();
    spool.put(record(2), payload()).await.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_right_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let wrong = spool.put(task(1, &bytes(b"abc")), bytes(b"ab")).await;
    assert_eq!(wrong, Err(SpoolError::Length { id: TaskId(1), said: 3, found: 2 }));
    let long = TaskRecord { kind: "k".repeat(20_000), ..(*task(1, &[])).clone() };
    assert!(matches!(spool.put(Arc::new(long), vec![]).await, Err(SpoolError::Record { .. })));
    assert_eq!((spool.bytes(), files(folder.path())), (0, vec![]));

    let longest = TaskRecord { kind: "k".repeat(16_000), ..(*task(1, &[])).clone() };
    spool.put(Arc::new(longest), vec![]).await.unwrap();
    let result = Err(TaskError::Panicked("p".repeat(32 * 1024)));
    spool.finish(TaskId(1), &OutcomeRecord { result, ..failure() }, vec![]).await.unwrap();
    drop(spool);
    assert_eq!(open(folder.path()).1.len(), 1);
}

#[test]
fn two_spools_never_share_a_folder() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("var").join("spool");
    let (first, _) = open(&folder);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }
    let Err(error) = Spool::open(&folder, NO_LIMIT) else { panic!("two have it") };
    assert_eq!(
        error,
        SpoolError::Taken { folder: folder.canonicalize().unwrap(), owner: format!("process {}", std::process::id()) }
    );
    let second = first.clone();
    drop(first);
    assert!(Spool::open(&folder, NO_LIMIT).is_err(), "a clone has it");
    drop(second);
    open(&folder);
}

#[test]
fn errors_say_where_and_what_to_do() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(error) = Spool::open(&file.join("spool"), NO_LIMIT) else { panic!("below a file") };
    assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
    let said = |code| SpoolError::io("write", Path::new("/spool/x"), &std::io::Error::from_raw_os_error(code));
    #[cfg(target_os = "linux")]
    for (code, says) in [(28, "make room"), (122, "make room"), (13, "must be writable"), (30, "must be writable")] {
        let said = said(code).to_string();
        assert!(said.contains("/spool/x") && said.contains(says), "{said}");
    }
}
