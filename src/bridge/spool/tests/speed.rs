use std::time::Instant;

use futures_util::future::join_all;

use super::*;

async fn timed(what: &str, times: u32, work: impl AsyncFn(u32)) {
    let mut taken = Vec::new();
    for time in 0..times {
        let start = Instant::now();
        work(time).await;
        taken.push(start.elapsed().as_secs_f64() * 1e3);
    }
    taken.sort_by(f64::total_cmp);
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    println!("{what}: median {:.2} ms, 95 % {:.2} ms, of {times}", at(0.5), at(0.95));
}

/// Figures, on the disk of TMPDIR: `cargo test --lib spool::tests::speed -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures, no claim"]
async fn figures() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path());
    let large = vec![Bytes::from(vec![3; 100_000_000]); 2];
    timed("put of 200 MB", 5, async |id| {
        spool.put(task(id.into(), &large), large.clone()).await.unwrap();
    })
    .await;
    timed("payload of 200 MB", 5, async |id| drop(spool.payload(TaskId(id.into())).await.unwrap())).await;
    timed("remove of 200 MB", 5, async |id| spool.remove(TaskId(id.into())).await.unwrap()).await;

    let small = vec![Bytes::from(vec![3; 80_000])];
    timed("put of 80 kB", 200, async |id| {
        spool.put(task(id.into(), &small), small.clone()).await.unwrap();
    })
    .await;
    timed("payload of 80 kB", 200, async |id| drop(spool.payload(TaskId(id.into())).await.unwrap())).await;
    let answer = vec![Bytes::from(vec![3; 800])];
    timed("finish with 800 B", 200, async |id| {
        spool.finish(TaskId(id.into()), &outcome(&answer), answer.clone()).await.unwrap();
    })
    .await;
    timed("answer of 800 B", 200, async |id| drop(spool.answer(TaskId(id.into())).await.unwrap())).await;
    timed("remove of 800 B", 200, async |id| spool.remove(TaskId(id.into())).await.unwrap()).await;
    timed("1000 puts of 80 kB at once", 1, async |_| {
        let puts = (0..1000).map(|id| spool.put(task(id, &small), small.clone()));
        join_all(puts).await.into_iter().for_each(|done| done.unwrap());
    })
    .await;
    drop(spool);
    timed("open with 1000 tasks", 3, async |_| assert_eq!(open(folder.path()).1.len(), 1000)).await;
}
