//! The kernel suite: one for both kernels, both methods, both orders. Backward errors are computed again here, by plain
//! loops that share nothing with the solver.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::params::TASK_BYTES;
use super::*;
use crate::task::{Handler, Watch, numbers_into_bytes};

const NONE: usize = usize::MAX;

fn handler() -> SolveHandler {
    SolveHandler::uncalibrated(NONE)
}

fn solve(system: &System, choice: Choice, threads: usize) -> Result<Solution, TaskError> {
    handler().solve(&system.clone().by(choice), threads, &Watch::default())
}

fn reordered(matrix: &Matrix, order: Order) -> Matrix {
    if matrix.is_vector() || matrix.order() == order {
        return matrix.clone();
    }
    let view = matrix.view();
    let numbers = match order {
        Order::RowMajor => view.iter().copied().collect(),
        Order::ColMajor => view.t().iter().copied().collect(),
    };
    Matrix::new(matrix.rows(), matrix.cols(), order, numbers).unwrap()
}

/// max_j ||b_j - A x_j|| / (||A|| ||x_j|| + ||b_j||), by definition.
fn backward_error(system: &System, x: &Matrix) -> f64 {
    let (a, b, x) = (reordered(&system.a, Order::RowMajor), system.b.view(), x.view());
    let a = a.view();
    let max = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |m: f64, v| m.max(v.abs()));
    let norm = max(&mut a.rows().into_iter().map(|row| row.iter().map(|v| v.abs()).sum()));
    let mut worst = 0.0_f64;
    for (x, b) in x.columns().into_iter().zip(b.columns()) {
        let x: Vec<f64> = x.to_vec();
        let residual =
            |(row, b): (ndarray::ArrayView1<'_, f64>, &f64)| b - row.iter().zip(&x).map(|(a, x)| a * x).sum::<f64>();
        let r = max(&mut a.rows().into_iter().zip(b).map(residual));
        let (x, b) = (max(&mut x.iter().copied()), max(&mut b.iter().copied()));
        if r > 0.0 {
            worst = worst.max((r / norm) / (x + b / norm));
        }
    }
    worst
}

fn check(system: &System, choice: Choice) -> Solution {
    let solution = solve(system, choice, 1).unwrap();
    let (n, error) = (system.a.rows() as f64, backward_error(system, &solution.x));
    let bound = 4.0 * n * f64::EPSILON;
    let claimed = solution.certificate.backward_error;
    assert!(error <= bound, "{system:?} {choice:?}: backward error {error:e}, bound {bound:e}");
    // Two ways to sum the same residual differ by rounding, not by more.
    assert!((claimed - error).abs() <= bound, "{system:?} {choice:?}: {claimed:e} claimed, {error:e} found");
    assert_eq!((solution.x.rows(), solution.x.cols()), (system.b.rows(), system.b.cols()));
    assert_eq!((solution.x.is_vector(), solution.x.order()), (system.b.is_vector(), system.b.order()));
    solution
}

#[test]
fn random_systems_of_every_shape_and_order_are_solved_to_rounding_by_both_methods() {
    const ORDERS: [Order; 2] = [Order::RowMajor, Order::ColMajor];
    for n in [1, 2, 3, 7, 64, 100, 255, 300, 511, 600, 1100] {
        for nrhs in [1, 3, n.min(140)] {
            let system = System::random(n, nrhs, (n * 1000 + nrhs) as u64);
            for (a_order, b_order) in ORDERS.iter().flat_map(|a| ORDERS.map(|b| (*a, b))) {
                let system = System::new(reordered(&system.a, a_order), reordered(&system.b, b_order));
                check(&system, Choice::Lu);
                let mixed = check(&system, Choice::Mixed);
                assert!(n < 300 || mixed.certificate.method == Method::Mixed, "{:?}", mixed.certificate);
            }
        }
    }
}

#[test]
fn auto_takes_mixed_from_its_size_on_and_threads_change_nothing_but_speed() {
    let small = check(&System::random(method::MIXED_FROM - 1, 1, 5), Choice::Auto);
    assert_eq!(small.certificate.method, Method::Lu);
    let system = System::random(1500, 2, 6);
    assert_eq!(check(&system, Choice::Auto).certificate.method, Method::Mixed);
    for (choice, threads) in [(Choice::Lu, 2), (Choice::Mixed, 2), (Choice::Mixed, 3)] {
        let solution = solve(&system, choice, threads).unwrap();
        assert_eq!(solution.certificate.threads as usize, threads);
        assert!(backward_error(&system, &solution.x) < 1e-12);
    }
}

#[test]
fn an_exactly_singular_matrix_is_named_with_its_pivot() {
    for (n, zero) in [(1, 0), (5, 2), (100, 99), (300, 7), (600, 123), (1100, 1099)] {
        for order in [Order::RowMajor, Order::ColMajor] {
            let System { a, b, .. } = System::random(n, 1, 8);
            let mut numbers = a.into_vec();
            // A column of A if column-major, a row if row-major: the stored line that can't get a pivot.
            numbers[zero * n..][..n].fill(0.0);
            let system = System::new(Matrix::new(n, n, order, numbers).unwrap(), b);
            for choice in [Choice::Lu, Choice::Mixed, Choice::Auto] {
                let error = solve(&system, choice, 1).unwrap_err();
                assert_eq!(error, TaskError::Singular { pivot: zero as u64 + 1 });
            }
        }
    }
}

/// H1 D H2 with reflectors H and D falling geometrically from 1 to 1 / condition: its condition is known.
fn of_condition(n: usize, condition: f64, scale: f64) -> Matrix {
    let reflector = |seed| {
        let v = System::random(1.max(n), 1, seed).b.into_vec();
        let square: f64 = v.iter().map(|v| v * v).sum();
        (v, 2.0 / square)
    };
    let ((u, p), (v, q)) = (reflector(1), reflector(2));
    let d: Vec<f64> = (0..n).map(|k| scale * condition.powf(-(k as f64) / (n - 1) as f64)).collect();
    // H1 D H2 = D - p u (D u)' - q (D v) v' + p q (u' D v) u v'
    let udv: f64 = (0..n).map(|k| u[k] * d[k] * v[k]).sum();
    let element = |(i, j): (usize, usize)| {
        let diagonal = if i == j { d[i] } else { 0.0 };
        diagonal - p * u[i] * u[j] * d[j] - q * d[i] * v[i] * v[j] + p * q * udv * u[i] * v[j]
    };
    ndarray::Array2::from_shape_fn((n, n), element).into()
}

#[test]
fn what_f32_does_not_carry_falls_back_to_f64() {
    for n in [120, 600] {
        let system = System::new(of_condition(n, 1e12, 1.0), System::random(n, 2, 3).b);
        assert_eq!(check(&system, Choice::Mixed).certificate.method, Method::Lu);
        let system = System::new(of_condition(n, 1e3, 1.0), System::random(n, 2, 3).b);
        assert_eq!(check(&system, Choice::Mixed).certificate.method, Method::Mixed);
    }
    for n in [5, 12, 200] {
        let hilbert = ndarray::Array2::from_shape_fn((n, n), |(i, j)| 1.0 / (i + j + 1) as f64);
        check(&System::new(hilbert, System::random(n, 3, 4).b), Choice::Mixed);
    }
    let wilkinson = |n| {
        ndarray::Array2::from_shape_fn((n, n), |(i, j)| {
            if j + 1 == n || i == j {
                1.0
            } else if i > j {
                -1.0
            } else {
                0.0
            }
        })
    };
    check(&System::new(wilkinson(30), System::random(30, 1, 4).b), Choice::Mixed);
}

#[test]
fn scales_beyond_f32_are_brought_into_it() {
    for scale in [1e-150, 1e-30, 1e30, 1e150] {
        for b_scale in [1e-100, 1.0, 1e100] {
            let numbers = System::random(300, 1, 9).b.into_vec();
            let b = Matrix::vector(numbers.iter().map(|v| v * b_scale).collect());
            let system = System::new(of_condition(300, 1e2, scale), b);
            assert_eq!(check(&system, Choice::Mixed).certificate.method, Method::Mixed);
            check(&system, Choice::Lu);
        }
    }
    let graded = ndarray::Array2::from_shape_fn((80, 80), |(i, j)| {
        (1.0 + ((i * 31 + j * 17) % 13) as f64 + 20.0 * f64::from(i == j)) * 10_f64.powi(3 * i as i32 - 120)
    });
    check(&System::new(graded, System::random(80, 1, 1).b), Choice::Mixed);
    check(&System::new(ndarray::array![[5e-324]], ndarray::array![1e-323]), Choice::Mixed);
}

#[test]
fn a_zero_right_hand_side_has_the_zero_answer() {
    for choice in [Choice::Lu, Choice::Mixed] {
        let system = System::new(System::random(50, 1, 1).a, Matrix::vector(vec![0.0; 50]));
        let solution = check(&system, choice);
        assert!(solution.x.as_slice().iter().all(|x| *x == 0.0));
        assert_eq!(solution.certificate.backward_error, 0.0);
    }
}

#[test]
fn results_beyond_f64_are_errors_not_infinities() {
    for choice in [Choice::Lu, Choice::Mixed] {
        let tiny = System::new(ndarray::array![[1e-300]], ndarray::array![1e300]);
        assert!(solve(&tiny, choice, 1).unwrap_err().to_string().contains("range of f64"));
        let sum = System::new(ndarray::array![[1e308, 1e308], [1e308, -1e308]], ndarray::array![1.0, 1.0]);
        assert!(solve(&sum, choice, 1).unwrap_err().to_string().contains("scale A and B"));
    }
}

/// Waits until a task on another thread is some way into its factorisation.
#[cfg(feature = "mkl")]
fn until_begun(watch: &Watch) {
    let late = Instant::now() + Duration::from_secs(120);
    while watch.share() == 0.0 {
        assert!(Instant::now() < late, "no progress");
        std::thread::yield_now();
    }
}

/// faer has no hook: there the watch is asked between the steps of a solution only.
#[cfg(feature = "mkl")]
#[test]
fn cancelling_one_factorisation_stops_it_at_once_and_leaves_another_alone() {
    let n = 2500;
    let system = &System::random(n, 1, 5);
    for threads in [1, 2] {
        for choice in [Choice::Lu, Choice::Mixed, Choice::Lstsq] {
            let whole = Instant::now();
            solve(system, choice, threads).unwrap();
            let whole = whole.elapsed();
            let (handler, watches) = (handler(), [Watch::default(), Watch::default()]);
            std::thread::scope(|scope| {
                let run = |watch: &Watch| {
                    let (handler, watch, system) = (&handler, watch.clone(), system.clone().by(choice));
                    scope.spawn(move || (handler.solve(&system, threads, &watch), Instant::now()))
                };
                let (doomed, other) = (run(&watches[0]), run(&watches[1]));
                watches.iter().for_each(until_begun);
                let asked = Instant::now();
                watches[0].cancel();
                let (stopped, at) = doomed.join().unwrap();
                assert_eq!(stopped.unwrap_err(), TaskError::Cancelled, "{choice:?} {threads}");
                assert!(at - asked < Duration::from_millis(500), "{choice:?} {threads}: {:?}", at - asked);
                assert!(watches[0].share() < 1.0);
                let (solution, _) = other.join().unwrap();
                assert!(backward_error(system, &solution.unwrap().x) < 1e-12, "{choice:?} {threads}, {whole:?}");
                assert_eq!(watches[1].share(), 1.0);
            });
        }
    }
}

#[cfg(feature = "mkl")]
#[test]
fn a_deadline_stops_a_factorisation_and_progress_rises_to_it() {
    let system = System::random(2500, 1, 5).by(Choice::Lu);
    let (handler, watch) = (handler(), Watch::until(Instant::now() + Duration::from_millis(30)));
    let begun = Instant::now();
    assert_eq!(handler.solve(&system, 1, &watch).unwrap_err(), TaskError::DeadlineExceeded);
    assert!(begun.elapsed() < Duration::from_millis(530), "{:?}", begun.elapsed());
    let watch = Watch::default();
    let shares = std::thread::scope(|scope| {
        let running = scope.spawn(|| handler.solve(&system, 2, &watch));
        let mut shares = vec![watch.share()];
        while !running.is_finished() {
            let share = watch.share();
            if share != shares[shares.len() - 1] {
                shares.push(share);
            }
            std::thread::yield_now();
        }
        running.join().unwrap().unwrap();
        shares
    });
    assert!(shares.len() > 3 && shares.is_sorted(), "{shares:?}");
    assert_eq!(watch.share(), 1.0);
}

#[test]
fn a_reproducible_answer_is_the_same_to_the_bit_whatever_threads_and_addresses() {
    for (n, choice) in [(80, Choice::Auto), (700, Choice::Auto), (700, Choice::Lu), (400, Choice::Lstsq)] {
        let system = System::random(n, 3, 9).by(choice);
        let system = System { how: How { reproducible: true, ..system.how }, ..system };
        let first = handler().solve(&system, 1, &Watch::default()).unwrap();
        assert_eq!(first.certificate.threads, 1);
        let setting = first.certificate.reproducible.clone().unwrap();
        assert!(setting.ends_with(", 1 thread"), "{setting}");
        for (threads, shift) in [(2, 0), (3, 1), (1, 5)] {
            // The same numbers at another address.
            let moved = |matrix: &Matrix| {
                let mut numbers = vec![0.0; shift];
                numbers.extend_from_slice(matrix.as_slice());
                let bytes = numbers_into_bytes(numbers).slice(shift * 8..);
                Matrix::from_bytes(matrix.rows(), matrix.cols(), matrix.order(), bytes).unwrap()
            };
            let moved = System { a: moved(&system.a), b: moved(&system.b), how: system.how };
            let again = handler().solve(&moved, threads, &Watch::default()).unwrap();
            let bits = |solution: &Solution| solution.x.as_slice().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&again), bits(&first), "{n} {choice:?}");
            assert_eq!(again.certificate.reproducible.as_ref(), Some(&setting));
        }
    }
    assert_eq!(solve(&System::random(5, 1, 1), Choice::Auto, 1).unwrap().certificate.reproducible, None);
}

#[test]
fn certificates_hold_at_the_ends_of_f64() {
    let huge = System::random(30, 1, 4).a.into_array2().slice_move(ndarray::s![.., ..7]) * 1e300;
    let tall = System::new(huge, ndarray::Array1::from_elem(30, 1.0));
    let certificate = solve(&tall, Choice::Lstsq, 1).unwrap().certificate;
    assert!(certificate.warning().is_none() && certificate.forward_error_bound.unwrap() < 1e-12, "{certificate:?}");
    let diagonal = ndarray::Array2::from_diag(&ndarray::array![1e300, 1.0, 1e-300]);
    for choice in [Choice::Auto, Choice::Lu, Choice::Cholesky, Choice::Triangular, Choice::Lstsq] {
        let solution = solve(&System::new(diagonal.clone(), ndarray::array![2e300, 2.0, 2e-300]), choice, 1).unwrap();
        let near = solution.x.as_slice().iter().all(|x| (x - 2.0).abs() < 1e-12);
        assert!(near && solution.certificate.warning().is_some(), "{choice:?} {solution:?}");
        // X has no digits there to be right.
        let solution = solve(&System::new(ndarray::array![[0.7]], ndarray::array![1.5e-323]), choice, 1).unwrap();
        assert!(solution.certificate.warning().is_some(), "{choice:?} {:?}", solution.certificate);
    }
}

#[test]
fn a_task_of_many_columns_stops_between_their_panels() {
    let system = System::random(300, 20_000, 3);
    for choice in [Choice::Lu, Choice::Lstsq, Choice::Triangular] {
        let triangular = if choice == Choice::Triangular {
            System::new(ndarray::Array2::<f64>::eye(300), system.b.clone())
        } else {
            system.clone()
        };
        let (handler, watch) = (handler(), Watch::default());
        std::thread::scope(|scope| {
            let running = scope.spawn(|| handler.solve(&triangular.by(choice), 1, &watch));
            while watch.share() < 0.1 && !running.is_finished() {
                std::thread::yield_now();
            }
            watch.cancel();
            let asked = Instant::now();
            assert_eq!(running.join().unwrap().unwrap_err(), TaskError::Cancelled, "{choice:?}");
            assert!(asked.elapsed() < Duration::from_millis(500), "{choice:?} {:?}", asked.elapsed());
        });
    }
}

#[test]
fn wrong_systems_are_refused_before_they_are_sent_and_the_message_says_where() {
    let refusal = |system: System| system.encode(Format::Binary).unwrap_err().to_string();
    let zeros = |rows, cols| ndarray::Array2::<f64>::zeros((rows, cols));
    assert!(refusal(System::new(zeros(3, 4), zeros(3, 1))).contains("3 x 4; it must be square, or the method lstsq"));
    assert!(refusal(System::new(zeros(3, 3), zeros(2, 1))).contains("B is 2 x 1 and A 3 x 3"));
    assert!(refusal(System::new(zeros(0, 0), zeros(0, 1))).contains("A is empty"));
    assert!(refusal(System::new(zeros(3, 3), zeros(3, 0))).contains("B is empty"));
    for order in [Order::RowMajor, Order::ColMajor] {
        for n in [3, 60, 700] {
            let system = System::random(n, 2, 1);
            let bad = |matrix: &Matrix, value: f64| {
                let mut array = reordered(matrix, order).into_array2();
                array[[n - 1, 1]] = value;
                Matrix::from(array)
            };
            let at = n - 1;
            let a = System::new(bad(&system.a, f64::NAN), system.b.clone());
            let b = System::new(system.a.clone(), bad(&system.b, f64::NEG_INFINITY));
            let run = |system: &System| solve(system, Choice::Auto, 1).unwrap_err().to_string();
            for (message, expected) in [
                (run(&a), format!("A[{at}, 1] is NaN")),
                (run(&b), format!("B[{at}, 1] is -inf")),
                (refusal(a), format!("A[{at}, 1] is NaN")),
                (refusal(b), format!("B[{at}, 1] is -inf")),
            ] {
                assert!(message.contains(&expected), "{message}");
            }
        }
    }
}

fn answer(system: &System, format: Format) -> Solution {
    let encoded = system.clone().encode(format).unwrap();
    let bytes = encoded.blob.payload_bytes();
    let params = encoded.blob.params.clone();
    let plan = handler().plan(format, &params, bytes, 2).unwrap();
    assert!(plan.memory_bytes > bytes);
    let answer = handler().run(encoded.blob, plan.threads, &Watch::default()).unwrap();
    assert!(answer.payload_bytes() <= encoded.answer_bytes);
    assert_eq!(answer.format, format);
    System::decode_answer(&params, answer).unwrap()
}

#[test]
fn both_forms_give_the_same_bits_in_the_shape_of_b() {
    for (n, nrhs) in [(1, 1), (40, 1), (40, 3), (520, 2)] {
        let system = System::random(n, nrhs, 11);
        for order in [Order::RowMajor, Order::ColMajor] {
            let system = System::new(reordered(&system.a, Order::RowMajor), reordered(&system.b, order));
            let direct = solve(&system, Choice::Auto, 1).unwrap();
            let (binary, json) = (answer(&system, Format::Binary), answer(&system, Format::Json));
            assert_eq!(binary.x, direct.x);
            assert_eq!(binary.x.order(), system.b.order());
            assert_eq!(json.x, direct.x);
            assert_eq!(json.certificate.backward_error, direct.certificate.backward_error);
        }
    }
}

#[test]
fn a_foreign_client_needs_no_parameters_with_json() {
    let blob = Blob {
        format: Format::Json,
        params: Vec::new(),
        payload: vec![Bytes::from_static(br#"{"a": [[2, 0], [0, 4]], "#), Bytes::from_static(br#""b": [2, 2]}"#)],
    };
    let plan = handler().plan(Format::Json, &[], blob.payload_bytes(), 4).unwrap();
    assert_eq!(plan.threads, 1);
    assert!(plan.memory_bytes > blob.payload_bytes());
    let order = Order::RowMajor;
    let asked =
        TaskParams { n: 2, m: 2, nrhs: 1, a_order: order, b_order: order, b_is_vector: true, how: How::default() }
            .to_bytes();
    let solution = System::decode_answer(&asked, handler().run(blob, 1, &Watch::default()).unwrap()).unwrap();
    assert_eq!(solution.x, Matrix::vector(vec![1.0, 0.5]));
    let lies =
        TaskParams { m: 1, n: 1, nrhs: 1, a_order: order, b_order: order, b_is_vector: true, how: How::default() };
    let payload = vec![Bytes::from_static(br#"{"a": [[2, 0], [0, 4]], "b": [2, 2]}"#)];
    let blob = Blob { format: Format::Json, params: lies.to_bytes(), payload };
    assert!(
        handler()
            .run(blob, 1, &Watch::default())
            .unwrap_err()
            .to_string()
            .contains("the parameters say (m, n, nrhs) = (1, 1, 1)")
    );
}

#[test]
fn numbers_travel_without_a_copy_and_may_lie_misaligned() {
    let system = System::random(30, 1, 3);
    let at = system.a.as_slice().as_ptr().cast::<u8>();
    let expected = solve(&system, Choice::Auto, 1).unwrap().x;
    let mut blob = system.encode(Format::Binary).unwrap().blob;
    assert_eq!(blob.payload[0].as_ptr(), at);
    assert_eq!(blob.params.len(), TASK_BYTES);
    let mut shifted = vec![0; 1];
    blob.payload.iter().for_each(|piece| shifted.extend_from_slice(piece));
    blob.payload = vec![Bytes::from(shifted).slice(1..)];
    let params = blob.params.clone();
    assert_eq!(System::decode_answer(&params, handler().run(blob, 1, &Watch::default()).unwrap()).unwrap().x, expected);
}

#[test]
fn plans_count_memory_and_give_threads_to_large_tasks_only() {
    let handler = SolveHandler::uncalibrated(1000);
    let plan = |n: usize, nrhs: usize, threads| {
        let order = Order::ColMajor;
        let params =
            TaskParams { m: n, n, nrhs, a_order: order, b_order: order, b_is_vector: false, how: How::default() };
        let bytes = params.numbers().unwrap() * 8;
        (handler.plan(Format::Binary, &params.to_bytes(), bytes, threads).unwrap(), bytes)
    };
    assert_eq!(plan(999, 1, 8).0.threads, 1);
    assert_eq!(plan(1001, 1, 8).0.threads, 8);
    assert_eq!(plan(1001, 1, 1).0.threads, 1);
    assert_eq!(plan(500, 5000, 8).0.threads, 8);
    let (large, bytes) = plan(5000, 1, 8);
    let ratio = large.memory_bytes as f64 / bytes as f64;
    assert!((2.0..2.02).contains(&ratio), "{ratio}");
}

#[test]
fn answers_from_outside_are_checked() {
    let system = System::random(4, 2, 1);
    let asked = system.params();
    let good = handler().run(system.encode(Format::Binary).unwrap().blob, 1, &Watch::default()).unwrap();
    let with = |change: &dyn Fn(&mut Blob)| {
        let mut blob = good.clone();
        change(&mut blob);
        System::decode_answer(&asked.to_bytes(), blob)
    };
    let other = TaskParams { nrhs: 3, ..asked };
    assert!(System::decode_answer(&other.to_bytes(), good.clone()).is_err(), "an answer to something else");
    assert!(with(&|_| ()).is_ok());
    assert!(with(&|blob| blob.payload.clear()).is_err());
    assert!(with(&|blob| blob.payload = vec![numbers_into_bytes(vec![f64::NAN; 8])]).is_err());
    assert!(with(&|blob| blob.params.truncate(20)).is_err());
    assert!(with(&|blob| blob.params[18] = 9).is_err());
    assert!(with(&|blob| blob.params[22..30].fill(0xff)).is_err());
    assert!(with(&|blob| blob.params[7] = 0xff).is_err());
    assert!(with(&|blob| blob.format = Format::Json).is_err());
}

#[test]
fn random_numbers_are_pinned_and_uniform() {
    let system = System::random(2, 1, 42);
    let bits: Vec<u64> = system.a.as_slice().iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, System::random(2, 3, 42).a.as_slice().iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    assert_ne!(System::random(2, 1, 43), system);
    assert_eq!(
        system.a.as_slice(),
        [-0.46513645397499204, 0.6286102901212871, -0.31691842479631305, -0.36235792003571987]
    );
    let many = System::random(400, 1, 7).a.into_vec();
    let mean = many.iter().sum::<f64>() / many.len() as f64;
    assert!(mean.abs() < 0.01 && many.iter().all(|v| (-1.0..1.0).contains(v)));
}

/// By `make memory`, and alone, for the peak is the process's.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "reads the peak memory of the whole process, so it must run alone"]
fn peak_memory_of_large_solutions_is_a_and_its_factors() {
    let status = |field: &str| -> f64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        kilobytes.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    };
    let n = 5000;
    // LU in f64 needs A for the residual and a copy of A for the factors: the proof costs the second A.
    for (choice, method, limit) in [(Choice::Auto, Method::Mixed, 1.55), (Choice::Lu, Method::Lu, 2.05)] {
        // The program, MKL's code and its buffers are there once, whatever is solved.
        solve(&System::random(600, 1, 1), choice, 1).unwrap();
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmRSS:");
        let system = System::random(n, 1, 1);
        let solution = solve(&system, choice, 1).unwrap();
        assert_eq!(solution.certificate.method, method);
        let ratio = (status("VmHWM:") - before) / (n * n * 8) as f64;
        println!("{method}: peak {ratio:.3} x A above {:.1} MB, {:?}", before / 1e6, solution.certificate);
        assert!(ratio <= limit, "{ratio}");
    }
}

fn any_system() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let numbers = |len| proptest::collection::vec(any::<f64>(), len);
    let shape = (1_usize..6, 1_usize..6, 1_usize..4);
    let orders = (0_u8..3, 0_u8..3, 0_u8..2);
    (shape, orders, 0_u8..7).prop_flat_map(move |((m, n, nrhs), (a_order, b_order, vector), method)| {
        let m = if method == 5 { m } else { n };
        let mut params = Vec::from((m as u64).to_le_bytes());
        params.extend((n as u64).to_le_bytes());
        params.extend((nrhs as u64).to_le_bytes());
        params.extend([a_order, b_order, vector, method, 0]);
        (Just(params), numbers(m * (n + nrhs)).prop_map(|numbers| bytemuck::cast_slice(&numbers).to_vec()))
    })
}

proptest! {
    #[test]
    fn any_parameters_and_payload_give_an_answer_or_an_error(
        params in proptest::collection::vec(any::<u8>(), 0..34),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        claimed in any::<u64>(),
    ) {
        for format in [Format::Binary, Format::Json] {
            let _ = handler().plan(format, &params, claimed, 4);
            let _ = handler().run(Blob { format, params: params.clone(), payload: vec![payload.clone().into()] }, 1, &Watch::default());
            let _ = System::decode_answer(&params, Blob { format, params: params.clone(), payload: vec![payload.clone().into()] });
        }
    }

    #[test]
    fn any_numbers_give_a_finite_answer_or_an_error((params, payload) in any_system()) {
        let asked = params.clone();
        let blob = Blob { format: Format::Binary, params, payload: vec![payload.into()] };
        if let Ok(answer) = handler().run(blob, 1, &Watch::default()) {
            prop_assert!(System::decode_answer(&asked, answer).is_ok());
        }
    }
}
