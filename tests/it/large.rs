//! Tasks and answers of 200 MB through a RabbitMQ that takes no message above 16 MiB.

use bytes::Bytes;
use rabbitry::tasks::solve::{Solution, System};
use rabbitry::transport::names;
use rabbitry::worker::Options;
use tokio::sync::Mutex;

use crate::pool::{Place, Probe, ProbeHandler, one_slot, solve_handler, soon, submit};

/// Each holds up to a GB: one at a time.
static TURN: Mutex<()> = Mutex::const_new(());

fn roomy() -> Options {
    Options { slots: 2, threads: 2, memory_bytes: 4 << 30, ..one_slot() }
}

/// The residual of a few rows of a few columns, in f64, against what rounding may leave there.
fn check_some_rows(system: &System, solution: &Solution) {
    let (a, b, x) = (system.a.view(), system.b.view(), solution.x.view());
    let n = a.nrows();
    for column in [0, b.ncols() / 2, b.ncols() - 1] {
        let x_norm = x.column(column).iter().fold(0.0f64, |max, value| max.max(value.abs()));
        for row in [0, 1, n / 3, n / 2, n - 1] {
            let residual = (b[(row, column)] - a.row(row).dot(&x.column(column))).abs();
            let scale = a.row(row).iter().map(|value| value.abs()).sum::<f64>() * x_norm + b[(row, column)].abs();
            assert!(residual < 1e-13 * scale, "row {row}, column {column}: {residual:e} of {scale:e}");
        }
    }
    let claimed = solution.certificate.backward_error;
    assert!(claimed < 1e-13, "{claimed:e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_of_200_mb_goes_to_one_worker_and_its_answer_comes_back() {
    let _turn = TURN.lock().await;
    let on = Place::rabbitmq().await;
    let (boss, client) = (on.boss().await, on.client().await);
    let workers = [on.worker(solve_handler(), roomy()), on.worker(solve_handler(), roomy())];
    let work = names::work_queue("solve");
    client.until(&work, "two workers", |q| q.is_some_and(|q| q.consumers == 2)).await;
    let system = System::random(5000, 1, 1);
    let ticket = submit(&boss, system.clone()).await;
    let solution = soon("the solution", ticket.outcome()).await.result.expect("solved");
    check_some_rows(&system, &solution);
    client.until_ready(names::DEAD, 0).await;
    let mut done = Vec::new();
    for worker in workers {
        done.push(worker.stop().await.done);
    }
    done.sort_unstable();
    assert_eq!(done, [0, 1], "exactly one worker had it");
    boss.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_200_mb_comes_back() {
    let _turn = TURN.lock().await;
    let on = Place::rabbitmq().await;
    let boss = on.boss().await;
    let _worker = on.worker(solve_handler(), roomy());
    let system = System::random(5000, 5000, 2);
    let ticket = submit(&boss, system.clone()).await;
    let solution = soon("the solution", ticket.outcome()).await.result.expect("solved");
    assert_eq!((solution.x.rows(), solution.x.cols()), (5000, 5000));
    check_some_rows(&system, &solution);
    boss.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_of_200_mb_comes_back_as_it_was() {
    let _turn = TURN.lock().await;
    let on = Place::rabbitmq().await;
    let boss = on.boss().await;
    let _worker = on.worker(ProbeHandler::new(Ok), roomy());
    // Not a multiple of any part, and no two parts alike.
    let sent: Bytes = (0..50_000_123u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let ticket = submit(&boss, Probe(sent.slice(1..))).await;
    let back = soon("the echo", ticket.outcome()).await.result.expect("an answer");
    assert!(back == sent.slice(1..), "{} bytes came back, and not as they were", back.len());
    boss.close().await;
}
