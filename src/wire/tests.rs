use proptest::prelude::*;

use super::*;
use crate::task::{Format, TaskError, TaskId, WorkerRef, WorkerTimes};

fn head() -> impl Strategy<Value = TaskHead> {
    (
        (any::<u128>(), "[a-z]{1,32}", any::<u32>(), any::<bool>(), any::<[u64; 2]>()),
        (any::<u64>(), any::<u64>(), any::<Option<u32>>(), proptest::option::of(".{0,60}"), any::<Vec<u8>>()),
        proptest::option::of(".{0,60}"),
    )
        .prop_map(
            |(
                (id, kind, attempt, json, [deadline_unix_ms, sent_unix_ms]),
                (flops, payload_bytes, checksum, pull_from, params),
                progress_to,
            )| {
                TaskHead {
                    id: TaskId(id),
                    kind,
                    attempt,
                    format: if json { Format::Json } else { Format::Binary },
                    deadline_unix_ms,
                    sent_unix_ms,
                    flops,
                    payload_bytes,
                    checksum,
                    pull_from,
                    progress_to,
                    params,
                }
            },
        )
}

fn outcome() -> OutcomeHead {
    OutcomeHead {
        id: TaskId(7),
        run: 9,
        worker: WorkerRef { id: "a-1-2".into(), host: "a".into() },
        compute_ns: 1,
        times: Some(WorkerTimes { received_ns: 1, sent_ns: 6, ..WorkerTimes::default() }),
        error: Some(TaskError::Singular { pivot: 3 }),
        format: Format::Binary,
        payload_bytes: 0,
        checksum: None,
        in_parts: false,
        params: vec![1, 2],
    }
}

proptest! {
    #[test]
    fn heads_come_back_as_they_were_sent(heads in proptest::collection::vec(head(), 1..5)) {
        let mut bytes = Vec::new();
        heads.iter().for_each(|head| encode_into(head, &mut bytes));
        prop_assert_eq!(decode_all::<TaskHead>(&bytes).unwrap(), heads);
    }

    #[test]
    fn any_bytes_are_an_error_and_not_a_panic(tail in any::<Vec<u8>>(), pick in 0usize..9) {
        let magic = [TaskHead::MAGIC, OutcomeHead::MAGIC, Part::MAGIC, PullRequest::MAGIC, Gone::MAGIC,
                     Heartbeat::MAGIC, Control::MAGIC, Progress::MAGIC, Cancelled::MAGIC][pick];
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&tail);
        for bytes in [&tail[..], &bytes[..]] {
            let _ = decode_all::<TaskHead>(bytes);
            let _ = decode_all::<OutcomeHead>(bytes);
            let _ = decode::<Part>(bytes);
            let _ = decode::<PullRequest>(bytes);
            let _ = decode::<Gone>(bytes);
            let _ = decode::<Heartbeat>(bytes);
            let _ = decode_all::<Control>(bytes);
            let _ = decode::<Progress>(bytes);
            let _ = decode::<Cancelled>(bytes);
        }
    }

    #[test]
    fn every_truncation_of_a_head_is_refused(head in head(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&head);
        let cut = cut.index(bytes.len());
        prop_assert!(decode::<TaskHead>(&bytes[..cut]).is_err());
    }
}

#[test]
fn another_version_is_named() {
    let mut bytes = encode(&outcome());
    bytes[4] = 9;
    let error = decode::<OutcomeHead>(&bytes).unwrap_err();
    assert_eq!(error, Error::Version { record: "outcome head", found: 9 });
    assert!(error.to_string().contains("version 9"), "{error}");
}

#[test]
fn a_record_is_not_read_as_another() {
    let bytes = encode(&outcome());
    assert!(matches!(decode::<TaskHead>(&bytes), Err(Error::Magic { expected: "task head", .. })));
    assert_eq!(decode::<OutcomeHead>(&bytes).unwrap(), outcome());
}

#[test]
fn a_string_that_claims_gigabytes_is_refused_before_it_is_allocated() {
    let mut bytes = TaskHead::MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(matches!(decode::<TaskHead>(&bytes), Err(Error::Malformed { .. })));
}

#[test]
fn the_longest_report_can_be_read_and_a_longer_one_earns_no_memory() {
    let report = |count| Progress { tasks: vec![Share { task: TaskId(1), permille: 1000 }; count] };
    assert_eq!(decode(&encode(&report(SHARES_MAX))), Ok(report(SHARES_MAX)));
    assert!(matches!(decode::<Progress>(&encode(&report(4096))), Err(Error::Malformed { .. })));
    let mut endless = encode(&report(0));
    endless[6..14].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(decode::<Progress>(&endless), Err(Error::Malformed { .. })));
}

#[test]
fn bytes_behind_a_record_are_refused() {
    let mut bytes = encode(&Gone { id: TaskId(1), run: 2 });
    bytes.push(0);
    assert!(matches!(decode::<Gone>(&bytes), Err(Error::Malformed { .. })));
}

#[test]
fn the_checksum_is_zlibs() {
    assert_eq!(checksum(&[b"123456789".as_slice()]), 0xcbf4_3926);
    assert_eq!(checksum(&[b"1234".as_slice(), b"56789"]), 0xcbf4_3926);
    assert!(verify(Some(0xcbf4_3926), b"123456789").is_ok());
    assert!(verify(Some(0), b"123456789").is_err());
}
