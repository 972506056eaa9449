use std::fs;

use super::*;

/// A folder with the tasks 1 (unfinished) and 2 (finished), and the bytes of both files.
async fn two(folder: &Path) -> [(String, Vec<u8>); 2] {
    let (spool, _) = open(folder);
    spool.put(task(1, &bytes(b"the payload")), bytes(b"the payload")).await.unwrap();
    spool.put(task(2, &[]), vec![]).await.unwrap();
    spool.finish(TaskId(2), &outcome(&bytes(b"the answer")), bytes(b"the answer")).await.unwrap();
    [name(1, "task"), name(2, "outcome")].map(|name| {
        let bytes = fs::read(folder.join(&name)).unwrap();
        (name, bytes)
    })
}

/// The damage is found at the start or when the payload is read, the file is set aside, and the other task is fine.
async fn is_found(folder: &Path, file: &str, damaged: &[u8], what: &str) {
    fs::write(folder.join(file), damaged).unwrap();
    let (spool, found) = open(folder);
    let (this, other) = if file == name(1, "task") { (TaskId(1), TaskId(2)) } else { (TaskId(2), TaskId(1)) };
    let read = async |id| if id == TaskId(1) { spool.payload(id).await } else { spool.answer(id).await };
    if found.len() == 2 {
        let error = read(this).await.unwrap_err();
        assert!(matches!(error, SpoolError::Damaged { .. }), "{what}: {error}");
    } else {
        assert_eq!(found.len(), 1, "{what}");
        assert!(matches!(read(this).await, Err(SpoolError::Unknown { .. })), "{what}");
    }
    assert!(read(other).await.is_ok(), "{what}");
    let aside = folder.join(format!("{file}.damaged"));
    assert_eq!(fs::read(&aside).unwrap(), damaged, "{what}");
    fs::remove_file(aside).unwrap();
    assert_eq!(spool.bytes(), file_bytes(folder), "{what}");
}

#[tokio::test]
async fn a_file_cut_anywhere_is_damaged_and_the_others_are_fine() {
    let folder = tempfile::tempdir().unwrap();
    for (file, whole) in two(folder.path()).await {
        for length in 0..whole.len() {
            is_found(folder.path(), &file, &whole[..length], &format!("{file} cut to {length}")).await;
        }
        let longer = [&whole[..], b"x"].concat();
        is_found(folder.path(), &file, &longer, "longer").await;
        fs::write(folder.path().join(&file), whole).unwrap();
    }
    assert_eq!(open(folder.path()).1.len(), 2);
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    for (file, whole) in two(folder.path()).await {
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            is_found(folder.path(), &file, &flipped, &format!("{file}, byte {at}")).await;
        }
        fs::write(folder.path().join(&file), whole).unwrap();
    }
    assert_eq!(open(folder.path()).1.len(), 2);
}

#[tokio::test]
async fn a_damaged_answer_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let answer = vec![Bytes::from(vec![7; 1 << 20])];
    let (spool, _) = open(folder.path());
    spool.put(task(1, &[]), vec![]).await.unwrap();
    spool.finish(TaskId(1), &outcome(&answer), answer).await.unwrap();
    let path = folder.path().join(name(1, "outcome"));
    let mut file = fs::read(&path).unwrap();
    let middle = file.len() / 4;
    file[middle] ^= 1;
    fs::write(&path, &file).unwrap();
    assert!(matches!(spool.answer(TaskId(1)).await, Err(SpoolError::Damaged { .. })));
    assert_eq!((spool.bytes(), files(folder.path())), (0, vec![name(1, "outcome.damaged")]));
    assert!(matches!(spool.answer(TaskId(1)).await, Err(SpoolError::Unknown { .. })));
    spool.remove(TaskId(1)).await.unwrap();
}

#[tokio::test]
async fn a_task_whose_payload_is_lost_can_be_finished() {
    let folder = tempfile::tempdir().unwrap();
    let [(file, mut whole), _] = two(folder.path()).await;
    *whole.last_mut().unwrap() ^= 1;
    fs::write(folder.path().join(&file), whole).unwrap();
    let (spool, _) = open(folder.path());
    assert!(matches!(spool.payload(TaskId(1)).await, Err(SpoolError::Damaged { .. })));
    assert!(matches!(spool.payload(TaskId(1)).await, Err(SpoolError::Unknown { .. })));
    spool.finish(TaskId(1), &failure(), vec![]).await.unwrap();
    drop(spool);
    assert_eq!(open(folder.path()).1[0], Found { task: task(1, &bytes(b"the payload")), outcome: Some(failure()) });
}

#[test]
fn huge_lengths_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let huge = |payload_bytes| TaskRecord { payload_bytes, ..(*task(1, &[])).clone() };
    let mut long = record::encode_task(1, &huge(0)).unwrap();
    long[6..10].copy_from_slice(&u32::MAX.to_le_bytes());
    // The length of the kind's name, behind the sequence number and the id.
    let mut name_of_kind = record::encode_task(1, &huge(0)).unwrap();
    let at = record::FRAME_BYTES + 8 + 16;
    name_of_kind[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    let heads = [
        record::encode_task(1, &huge(u64::MAX)).unwrap(),
        record::encode_task(1, &huge(1 << 60)).unwrap(),
        with_checksum(long),
        with_checksum(name_of_kind),
    ];
    for mut head in heads {
        head.extend([0; 64]);
        fs::write(folder.path().join(name(1, "task")), head).unwrap();
        assert_eq!(open(folder.path()).1, []);
        assert_eq!(files(folder.path()), [name(1, "task.damaged")]);
    }
}

#[tokio::test]
async fn leftovers_go_and_what_is_not_the_spools_stays() {
    let folder = tempfile::tempdir().unwrap();
    let [(_, first), (_, second)] = two(folder.path()).await;
    let mut newer = first.clone();
    newer[4] = 99;
    newer.truncate(newer.len() - 15);
    let kept = [
        (name(9, "task"), with_checksum(newer)),
        (name(1, "task.damaged"), vec![1]),
        ("notes.txt".into(), vec![2]),
        ("notes.tmp".into(), vec![3]),
        (format!("{:032X}.task", 0xabc), first.clone()),
        ("1.task".into(), first.clone()),
    ];
    for (name, bytes) in &kept {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::write(folder.path().join(name(5, "task.tmp")), "half").unwrap();
    fs::write(folder.path().join(name(5, "outcome.tmp")), "half").unwrap();
    // Under another task's name, and a task called an outcome.
    fs::write(folder.path().join(name(6, "task")), &first).unwrap();
    fs::write(folder.path().join(name(1, "outcome")), &first).unwrap();
    fs::write(folder.path().join(name(2, "task")), &second).unwrap();
    fs::create_dir(folder.path().join(name(7, "task"))).unwrap();

    let (spool, found) = open(folder.path());
    assert_eq!(found.iter().map(|found| found.task.id.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(spool.bytes(), (first.len() + second.len()) as u64);
    let mut expected: BTreeSet<String> = kept.iter().map(|(name, _)| name.clone()).collect();
    expected.extend([name(1, "task"), name(2, "outcome"), name(7, "task"), folder::LOCK.to_owned()]);
    expected.extend([name(6, "task.damaged"), name(1, "outcome.damaged"), name(2, "task.damaged")]);
    assert_eq!(names(folder.path()), expected);
    for (name, bytes) in kept {
        assert_eq!(fs::read(folder.path().join(name)).unwrap(), bytes);
    }
}

#[tokio::test]
async fn an_outcome_wins_over_its_task() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    spool.put(task(1, &bytes(b"abc")), bytes(b"abc")).await.unwrap();
    let unfinished = fs::read(folder.path().join(name(1, "task"))).unwrap();
    spool.finish(TaskId(1), &failure(), vec![]).await.unwrap();
    drop(spool);
    // As after a crash between the two.
    fs::write(folder.path().join(name(1, "task")), &unfinished).unwrap();
    let (spool, found) = open(folder.path());
    assert_eq!(found, [Found { task: task(1, &bytes(b"abc")), outcome: Some(failure()) }]);
    assert_eq!(files(folder.path()), [name(1, "outcome")]);
    assert_eq!(spool.bytes(), file_bytes(folder.path()));
    drop(spool);
    // A damaged outcome does not.
    fs::write(folder.path().join(name(1, "task")), &unfinished).unwrap();
    fs::write(folder.path().join(name(1, "outcome")), "").unwrap();
    let (spool, found) = open(folder.path());
    assert_eq!(found, [Found { task: task(1, &bytes(b"abc")), outcome: None }]);
    assert_eq!(spool.payload(TaskId(1)).await.unwrap(), "abc");
}

#[tokio::test]
async fn what_the_disk_refuses_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let blocked = |extension: &str| {
        // A folder with something in it can't be replaced by a file.
        fs::create_dir_all(folder.path().join(name(1, extension)).join("x")).unwrap();
    };
    let free = |extension: &str| fs::remove_dir_all(folder.path().join(name(1, extension))).unwrap();
    for extension in ["task.tmp", "task"] {
        blocked(extension);
        let error = spool.put(task(1, &bytes(b"abc")), bytes(b"abc")).await.unwrap_err();
        assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
        assert_eq!((spool.bytes(), files(folder.path())), (0, vec![name(1, extension)]));
        free(extension);
    }
    spool.put(task(1, &bytes(b"abc")), bytes(b"abc")).await.unwrap();
    let size = spool.bytes();
    for extension in ["outcome.tmp", "outcome"] {
        blocked(extension);
        assert!(spool.finish(TaskId(1), &failure(), vec![]).await.is_err());
        assert_eq!((spool.bytes(), files(folder.path()).len()), (size, 2));
        free(extension);
    }
    assert_eq!(spool.payload(TaskId(1)).await.unwrap(), "abc");
    spool.finish(TaskId(1), &failure(), vec![]).await.unwrap();
    fs::remove_file(folder.path().join(name(1, "outcome"))).unwrap();
    blocked("outcome");
    assert!(spool.remove(TaskId(1)).await.is_err());
    assert!(spool.bytes() > 0, "what is not removed is counted");
    free("outcome");
    spool.remove(TaskId(1)).await.unwrap();
    assert_eq!(spool.bytes(), 0);
}

/// Wants a disk of its own: `cargo test --no-run`, then as root `unshare -m sh -c 'mount -t tmpfs -o size=4m none /mnt &&
/// TMPDIR=/mnt target/debug/deps/rabbitry-... --ignored full_disk'`.
#[tokio::test]
#[ignore = "fills the disk of TMPDIR, of 4 MiB"]
async fn a_full_disk_is_said_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let large = || vec![Bytes::from(vec![1; 1 << 20]); 8];
    spool.put(task(1, &bytes(b"abc")), bytes(b"abc")).await.unwrap();
    let size = spool.bytes();
    for _ in 0..3 {
        let error = spool.put(task(2, &large()), large()).await.unwrap_err();
        assert!(matches!(error, SpoolError::DiskFull { .. }), "{error}");
        let error = spool.finish(TaskId(1), &outcome(&large()), large()).await.unwrap_err();
        assert!(matches!(error, SpoolError::DiskFull { .. }), "{error}");
        assert_eq!((spool.bytes(), files(folder.path())), (size, vec![name(1, "task")]));
    }
    spool.finish(TaskId(1), &failure(), vec![]).await.unwrap();
}
