// Eigen's PartialPivLU, and LLT for positive definite systems, timed. Started by run.py, where the protocol is.
//
// A and B are column-major, Eigen's own order. The factorisation's object and X are used again from call to call, so
// that page faults are not timed; the copy of A that `compute` makes is in the time, as its users pay for it.

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <Eigen/Dense>

namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// More calls of a tiny system than anyone wants to read the seconds of.
constexpr long calls_max = 100000;

// xoshiro256++ seeded through SplitMix64.
class Random {
public:
    explicit Random(std::uint64_t seed) {
        for (auto& word : state) {
            seed += 0x9E3779B97F4A7C15;
            std::uint64_t z = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9;
            z = (z ^ z >> 27) * 0x94D049BB133111EB;
            word = z ^ z >> 31;
        }
    }

    // Two numbers from each word, the lower half first: the bits of a float in [2, 4), less 3.
    double number() {
        half = second ? word >> 32 : (word = next()) & 0xFFFFFFFF;
        second = !second;
        const std::uint64_t bits = half << 20 | std::uint64_t{0x400} << 52;
        double number;
        static_assert(sizeof number == sizeof bits, "an IEEE double");
        std::memcpy(&number, &bits, sizeof number);
        return number - 3.0;
    }

private:
    static std::uint64_t rotated(std::uint64_t word, int by) { return word << by | word >> (64 - by); }

    std::uint64_t next() {
        const std::uint64_t out = rotated(state[0] + state[3], 23) + state[0];
        const std::uint64_t shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = rotated(state[3], 45);
        return out;
    }

    std::uint64_t state[4], word = 0, half = 0;
    bool second = false;
};

struct Request {
    bool spd;
    long n, nrhs;
    std::uint64_t seed;
    long repeats;
    double at_least;
};

struct System {
    bool made = false, spd;
    long n, nrhs;
    std::uint64_t seed, fingerprint;
    MatrixXd a, b;

    bool is(const Request& asked) const {
        return made && spd == asked.spd && n == asked.n && nrhs == asked.nrhs && seed == asked.seed;
    }
};

std::uint64_t sum_of_bits(const MatrixXd& matrix) {
    std::uint64_t sum = 0;
    for (Index at = 0; at < matrix.size(); ++at) {
        std::uint64_t bits;
        std::memcpy(&bits, matrix.data() + at, sizeof bits);
        sum += bits;
    }
    return sum;
}

// As run.py describes it.
void make(System& system, const Request& asked) {
    system.made = false;
    system.spd = asked.spd, system.n = asked.n, system.nrhs = asked.nrhs, system.seed = asked.seed;
    system.a.resize(asked.n, asked.n);
    system.b.resize(asked.n, asked.nrhs);
    Random random(asked.seed);
    for (MatrixXd* part : {&system.a, &system.b})
        for (Index at = 0; at < part->size(); ++at) part->data()[at] = random.number();
    if (asked.spd) {
        system.a.triangularView<Eigen::StrictlyUpper>() = system.a.transpose();
        system.a.diagonal().array() += static_cast<double>(asked.n);
    }
    system.fingerprint = sum_of_bits(system.a) + sum_of_bits(system.b);
    system.made = true;
}

double backward_error(const System& system, const MatrixXd& x) {
    const double a_norm = system.a.cwiseAbs().rowwise().sum().maxCoeff();
    const MatrixXd r = system.b - system.a * x;
    double worst = 0.0;
    for (Index j = 0; j < x.cols(); ++j) {
        const double x_norm = x.col(j).lpNorm<Eigen::Infinity>(), b_norm = system.b.col(j).lpNorm<Eigen::Infinity>();
        const double error = r.col(j).lpNorm<Eigen::Infinity>() / (a_norm * x_norm + b_norm);
        // Not std::max: it would lose a NaN.
        if (!(error <= worst)) worst = error;
    }
    return worst;
}

template <typename Solver, typename Rhs>
std::vector<double> timed(const System& system, const Request& asked, MatrixXd& answer) {
    using Clock = std::chrono::steady_clock;
    Solver solver(system.a.rows());
    const Rhs b = system.b;
    Rhs x(b.rows(), b.cols());
    x.setZero();
    std::vector<double> seconds;
    double total = 0.0;
    const auto enough = [&] {
        const long calls = static_cast<long>(seconds.size());
        return calls >= asked.repeats && (total >= asked.at_least || calls >= calls_max);
    };
    while (!enough()) {
        const auto start = Clock::now();
        solver.compute(system.a);
        x = solver.solve(b);
        seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
        total += seconds.back();
    }
    answer = x;
    return seconds;
}

template <typename Solver>
std::vector<double> timed(const System& system, const Request& asked, MatrixXd& answer) {
    // One right-hand side is a vector in anybody's program, and Eigen has faster code for it.
    if (asked.nrhs == 1) return timed<Solver, VectorXd>(system, asked, answer);
    return timed<Solver, MatrixXd>(system, asked, answer);
}

Request parsed(const std::string& line) {
    std::istringstream in(line);
    std::string what, seed, rest;
    Request asked{};
    if (!(in >> what >> asked.n >> asked.nrhs >> seed >> asked.repeats) || (what != "solve" && what != "spd") ||
        seed.find_first_not_of("0123456789") != std::string::npos)
        throw std::invalid_argument("not a request; it is: solve|spd N NRHS SEED REPEATS [SECONDS]");
    // Through a string: `>>` would take a minus sign for an unsigned number.
    asked.seed = std::stoull(seed);
    asked.spd = what == "spd";
    if (!(in >> std::ws).eof() && !(in >> asked.at_least)) throw std::invalid_argument("SECONDS is not a number");
    if (in >> rest) throw std::invalid_argument("more words than a request has");
    if (asked.n < 1 || asked.nrhs < 1 || asked.repeats < 1 || asked.repeats > calls_max || !(asked.at_least >= 0.0))
        throw std::invalid_argument("a number of the request is out of range");
    return asked;
}

// None of these has a character that JSON would want escaped.
std::string identity() {
    std::ostringstream out;
    out << "\"baseline\": \"eigen\", \"version\": \"" << EIGEN_WORLD_VERSION << '.' << EIGEN_MAJOR_VERSION << '.'
        << EIGEN_MINOR_VERSION << "\", \"blas\": \"Eigen's own kernels (" << Eigen::SimdInstructionSetsInUse()
        << "), compiler " << __VERSION__ << "\", \"threads\": " << Eigen::nbThreads();
    return out.str();
}

std::string solve(System& system, const Request& asked) {
    if (!system.is(asked)) make(system, asked);
    MatrixXd x;
    // The timed solver lives in here only: its factor is given back before the backward error takes memory.
    const std::vector<double> seconds = asked.spd ? timed<Eigen::LLT<MatrixXd>>(system, asked, x)
                                                  : timed<Eigen::PartialPivLU<MatrixXd>>(system, asked, x);
    const double error = backward_error(system, x);
    if (!std::isfinite(error)) throw std::domain_error("the answer is not finite");
    char text[64];
    std::ostringstream out;
    out << '{' << identity() << ", \"n\": " << asked.n << ", \"nrhs\": " << asked.nrhs << ", \"matrix\": \""
        << (asked.spd ? "spd" : "random") << "\", \"seed\": " << asked.seed << ", \"repeats\": " << seconds.size()
        << ", \"seconds\": [";
    for (std::size_t at = 0; at < seconds.size(); ++at) {
        std::snprintf(text, sizeof text, "%s%.9g", at == 0 ? "" : ", ", seconds[at]);
        out << text;
    }
    std::snprintf(text, sizeof text, "%.17g", error);
    out << "], \"backward_error\": " << text;
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(system.fingerprint));
    out << ", \"fingerprint\": \"" << text << "\"}";
    return out.str();
}

// The answer to a line; `failed` if it is an error.
std::string answer(System& system, const std::string& line, bool& failed) {
    failed = true;
    try {
        std::string text = solve(system, parsed(line));
        failed = false;
        return text;
    } catch (const std::bad_alloc&) {
        return "{\"baseline\": \"eigen\", \"error\": \"no memory for this system\"}";
    } catch (const std::exception& error) {
        return std::string("{\"baseline\": \"eigen\", \"error\": \"") + error.what() + "\"}";
    }
}

}  // namespace

int main(int count, char** arguments) {
    System system;
    bool failed = false;
    if (count > 1) {
        std::string line;
        for (int at = 1; at < count; ++at) line += std::string(arguments[at]) + ' ';
        const std::string text = answer(system, line, failed);
        std::cout << text << std::endl;
        if (failed) std::cerr << "eigen_solve: " << text << std::endl;
        return failed ? 1 : 0;
    }
    std::cout << '{' << identity() << ", \"ready\": true}" << std::endl;
    for (std::string line; std::getline(std::cin, line);)
        if (line.find_first_not_of(" \t\r") != std::string::npos)
            std::cout << answer(system, line, failed) << std::endl;
    return 0;
}
