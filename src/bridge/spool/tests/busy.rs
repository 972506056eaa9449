use futures_util::future::join_all;
use futures_util::poll;

use super::*;

const MEGABYTES: usize = 16;

fn large() -> Vec<Bytes> {
    vec![Bytes::from(vec![3; 1 << 20]); MEGABYTES]
}

async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("did not come to pass in 10 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_at_once_keep_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let each = (0..200u128).map(|id| {
        let spool = spool.clone();
        tokio::spawn(async move {
            let pieces = vec![Bytes::from(vec![id as u8; 300]), Bytes::from(vec![!(id as u8); id as usize])];
            spool.put(task(id, &pieces), pieces.clone()).await.unwrap();
            assert_eq!(spool.payload(TaskId(id)).await.unwrap(), pieces.concat());
            if id % 3 > 0 {
                spool.finish(TaskId(id), &outcome(&pieces), pieces.clone()).await.unwrap();
                assert_eq!(spool.answer(TaskId(id)).await.unwrap(), pieces.concat());
            }
            if id % 3 > 1 {
                spool.remove(TaskId(id)).await.unwrap();
            }
        })
    });
    join_all(each).await.into_iter().for_each(|done| done.unwrap());
    let size = spool.bytes();
    assert_eq!((size, files(folder.path()).len()), (file_bytes(folder.path()), 134));
    drop(spool);
    let (spool, found) = open(folder.path());
    assert_eq!((spool.bytes(), found.len()), (size, 134));
    assert!(found.iter().all(|found| found.outcome.is_some() == (found.task.id.0 % 3 == 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_on_one_task_has_an_order_whoever_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    for id in 0..40 {
        let pieces = bytes(b"abc");
        let finish = || {
            let spool = spool.clone();
            tokio::spawn(async move { spool.finish(TaskId(id), &outcome(&bytes(b"x")), bytes(b"x")).await })
        };
        let put = tokio::spawn({
            let spool = spool.clone();
            async move { spool.put(task(id, &pieces), pieces.clone()).await }
        });
        tokio::task::yield_now().await;
        let finished = [finish(), finish()];
        let remove = tokio::spawn({
            let spool = spool.clone();
            async move { spool.remove(TaskId(id)).await }
        });
        put.await.unwrap().unwrap();
        let mut firsts = 0;
        for finished in finished {
            firsts += usize::from(finished.await.unwrap().is_ok());
        }
        assert!(firsts <= 1);
        remove.await.unwrap().unwrap();
        spool.remove(TaskId(id)).await.unwrap();
        assert_eq!((spool.bytes(), files(folder.path())), (0, vec![]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_dropped_at_any_time_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    spool.put(task(0, &bytes(b"abc")), bytes(b"abc")).await.unwrap();
    let size = spool.bytes();
    for id in 1..40 {
        let put = spool.put(task(id, &large()), large());
        if tokio::time::timeout(Duration::from_millis(id as u64 - 1), put).await.is_ok() {
            assert_eq!(files(folder.path()).len(), 2);
            spool.remove(TaskId(id)).await.unwrap();
        }
        until(|| spool.bytes() == size).await;
        assert_eq!(files(folder.path()), [name(0, "task")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_nobody_heard_of_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let mut put = Box::pin(spool.put(task(1, &bytes(b"abc")), bytes(b"abc")));
    assert!(poll!(&mut put).is_pending());
    until(|| files(folder.path()) == [name(1, "task")]).await;
    // The work is at its end, or a folder's sync from it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(put);
    until(|| spool.bytes() == 0).await;
    assert_eq!(files(folder.path()), Vec::<String>::new());
    spool.put(task(1, &bytes(b"abc")), bytes(b"abc")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_waits_for_its_turn_is_counted_and_can_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let turns = spool.shared.writing.clone().acquire_many_owned(AT_A_TIME as u32).await.unwrap();
    let mut put = Box::pin(spool.put(task(1, &large()), large()));
    assert!(poll!(&mut put).is_pending());
    assert!(spool.bytes() > large().len() as u64);
    drop(put);
    assert_eq!((spool.bytes(), files(folder.path())), (0, vec![]));
    drop(turns);
    spool.put(task(1, &large()), large()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finish_or_remove_that_is_dropped_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    spool.put(task(1, &bytes(b"abc")), bytes(b"abc")).await.unwrap();
    let record = outcome(&large());
    let mut finish = Box::pin(spool.finish(TaskId(1), &record, large()));
    assert!(poll!(&mut finish).is_pending());
    drop(finish);
    assert_eq!(spool.answer(TaskId(1)).await.unwrap().len(), MEGABYTES << 20);
    assert_eq!(files(folder.path()), [name(1, "outcome")]);
    assert_eq!(spool.bytes(), file_bytes(folder.path()));
    let mut remove = Box::pin(spool.remove(TaskId(1)));
    let _ = poll!(&mut remove);
    drop(remove);
    until(|| spool.bytes() == 0).await;
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn a_runtime_that_ends_leaves_whole_tasks_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..8u64 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (spool, _) = open(folder.path());
        for id in 1..8 {
            let spool = spool.clone();
            runtime.spawn(async move { spool.put(task(id, &large()), large()).await });
        }
        std::thread::sleep(Duration::from_millis(round * 10));
        drop(runtime);
        assert!(files(folder.path()).iter().all(|file| file.ends_with(".task")));
        assert_eq!(spool.bytes(), file_bytes(folder.path()));
        drop(spool);
        let (spool, found) = open(folder.path());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for found in found {
            assert_eq!(runtime.block_on(spool.payload(found.task.id)).unwrap().len(), MEGABYTES << 20);
            runtime.block_on(spool.remove(found.task.id)).unwrap();
        }
    }
}
