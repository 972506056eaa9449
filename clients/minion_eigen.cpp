// A Rabbitry worker in C++17 with Eigen: leases systems A X = B from the HTTP bridge and solves them.
//
//     make -C clients minion_eigen && clients/minion_eigen --bridge http://127.0.0.1:8080
//
// The lease calls are in README.md beside it, the binary layouts in docs/protocol.md. The first Ctrl-C (or SIGTERM)
// gives the task in hand back, and another worker gets it. Exit codes: 0 after --count tasks or SIGTERM; 1 if the
// bridge refuses this worker; 2 usage; 130 after Ctrl-C.

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <getopt.h>
#include <unistd.h>

#include <Eigen/Dense>
#include <curl/curl.h>
#include <nlohmann/json.hpp>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "payloads are little-endian");

namespace {

using Clock = std::chrono::steady_clock;
using Eigen::Index;
using Eigen::MatrixXd;
using nlohmann::json;
using RowMajorMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
// Numbers where they are.
using ColMajor = Eigen::Map<const MatrixXd>;
using RowMajor = Eigen::Map<const RowMajorMatrix>;

// One wait for a task, and the silence of a bridge that is more than slowness.
constexpr double wait_seconds = 30.0;
constexpr long silence_seconds = 90;
// The longest pause before a bridge that is not there is asked again.
constexpr double backoff_seconds_max = 15.0;
// Between looks for a signal.
constexpr auto look = std::chrono::milliseconds(100);
constexpr double epsilon = std::numeric_limits<double>::epsilon();

// The signal that came.
volatile std::sig_atomic_t stop_signal = 0;

extern "C" void on_signal(int number) { stop_signal = number; }

// Unwinds to where the lease is given back.
struct Stop {};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A task that has no answer: the document for its caller.
struct TaskError {
    json document;
};

[[noreturn]] void invalid(const std::string& message) { throw TaskError{{{"code", "invalid"}, {"message", message}}}; }

// -- Numbers ---------------------------------------------------------------------------------------------------------

// A leased system A X = B. The numbers are in the lease's body, each matrix in its order.
struct System {
    Index m = 0, n = 0, nrhs = 0;
    bool a_by_columns = false, b_by_columns = false, b_is_vector = false;
    std::string method = "auto";
    bool reproducible = false;
    const double* a = nullptr;
    const double* b = nullptr;
};

// As docs/protocol.md has it.
struct Certificate {
    std::string method;
    double backward_error = 0.0, rcond = 0.0;
    std::optional<double> forward_error_bound;
    std::uint32_t threads = 1;
    double factor_seconds = 0.0, solve_seconds = 0.0;
};

struct Solution {
    MatrixXd x;
    Certificate certificate;
};

template <class Matrix>
std::string element(const Matrix& a, Index i, Index j) {
    std::ostringstream text;
    text.precision(17);
    text << '[' << i << ", " << j << "] is " << a(i, j);
    return text.str();
}

// The first element, by rows, of which `wrong(i, j)` is true.
template <class Matrix, class Wrong>
std::optional<std::pair<Index, Index>> first(const Matrix& a, Wrong wrong) {
    for (Index i = 0; i < a.rows(); ++i)
        for (Index j = 0; j < a.cols(); ++j)
            if (wrong(i, j)) return std::pair(i, j);
    return std::nullopt;
}

template <class Matrix>
void check_finite(const char* name, const Matrix& a) {
    if (a.allFinite()) return;
    const auto [i, j] = *first(a, [&](Index i, Index j) { return !std::isfinite(a(i, j)); });
    invalid(name + element(a, i, j) + " (rows and columns from 0): remove or replace it");
}

// Refuses what other workers refuse: a caller must not see which of them has its task.
template <class Matrix>
void check(const System& system, const Matrix& a, const MatrixXd& b) {
    if (system.reproducible) invalid("this worker can't promise bits");
    if (system.m != system.n && system.method != "lstsq")
        invalid("A is " + std::to_string(system.m) + " x " + std::to_string(system.n)
                + "; it must be square, or the method lstsq");
    check_finite("A", a);
    check_finite("B", b);
    const auto refuse = [&](const char* form, std::pair<Index, Index> one, std::pair<Index, Index> other) {
        invalid(std::string("A is not ") + form + ": A" + element(a, one.first, one.second) + " and A"
                + element(a, other.first, other.second) + " (rows and columns from 0)");
    };
    if (system.method == "cholesky") {
        const auto at = first(a, [&](Index i, Index j) { return a(i, j) != a(j, i); });
        if (at) refuse("symmetric", *at, {at->second, at->first});
    } else if (system.method == "triangular") {
        const auto above = first(a, [&](Index i, Index j) { return i < j && a(i, j) != 0.0; });
        const auto below = first(a, [&](Index i, Index j) { return i > j && a(i, j) != 0.0; });
        if (above && below) refuse("triangular", *above, *below);
    }
}

template <class Matrix>
double norm(const Matrix& a) {  // infinity norm
    return a.cwiseAbs().rowwise().sum().maxCoeff();
}

std::optional<Index> first_zero_pivot(const Eigen::PartialPivLU<MatrixXd>& lu) {
    for (Index k = 0; k < lu.matrixLU().rows(); ++k)
        if (lu.matrixLU()(k, k) == 0.0) return k;
    return std::nullopt;
}

[[noreturn]] void singular(Index pivot) { throw TaskError{{{"code", "singular"}, {"pivot", pivot + 1}}}; }

// X, and an estimate of 1 / (||A|| ||A^-1||), rarely above three times the truth.
template <class Matrix>
std::pair<MatrixXd, double> solve_by_lu(const Matrix& a, bool by_columns, const MatrixXd& b,
                                        Clock::time_point& factored) {
    // Of the transpose: rcond() is in the 1-norm, and certificates are in the infinity norm.
    const Eigen::PartialPivLU<MatrixXd> lu(a.transpose());
    if (const auto pivot = first_zero_pivot(lu)) {
        // Pivots are counted in A as it is stored, column by column.
        singular(by_columns ? first_zero_pivot(Eigen::PartialPivLU<MatrixXd>(a)).value_or(*pivot) : *pivot);
    }
    factored = Clock::now();
    const double rcond = lu.rcond();
    return {lu.transpose().solve(b), std::isfinite(rcond) ? rcond : 0.0};
}

// The x of the least ||b - A x||, or the shortest x that solves, and the reciprocal condition of the triangular factor.
template <class Matrix>
std::pair<MatrixXd, double> solve_least_squares(const Matrix& a, const MatrixXd& b, Clock::time_point& factored) {
    Eigen::CompleteOrthogonalDecomposition<MatrixXd> qr(a.rows(), a.cols());
    // A has full rank, says its caller: nothing but zero counts as zero.
    qr.setThreshold(0.0);
    qr.compute(a);
    const Index rank = std::min(a.rows(), a.cols());
    if (qr.rank() < rank) singular(qr.rank());
    factored = Clock::now();
    // Its inverse is cheap beside the factorisation, and no estimate.
    const MatrixXd t = qr.matrixT().topLeftCorner(rank, rank).template triangularView<Eigen::Upper>();
    const MatrixXd inverse = t.triangularView<Eigen::Upper>().solve(MatrixXd::Identity(rank, rank));
    const double rcond = 1.0 / norm(t) / norm(inverse);
    return {qr.solve(b), std::isfinite(rcond) ? std::min(rcond, 1.0) : 0.0};
}

// max over the columns of ||b - A x|| / (||A|| ||x|| + ||b||), infinity norm; for least squares with a residual of
// ||A' r|| / (||A'|| (||A|| ||x|| + ||b||)). Divided through by ||A||, so that no product overflows.
template <class Matrix>
double backward_error(const Matrix& a, double norm_a, const MatrixXd& x, const MatrixXd& b) {
    MatrixXd r = b;
    r.noalias() -= a * x;
    const bool overdetermined = a.rows() > a.cols();
    const double norm_t = overdetermined ? norm(a.transpose()) : 0.0;
    double worst = 0.0;
    for (Index j = 0; j < b.cols(); ++j) {
        double size = norm(r.col(j));
        if (size == 0.0) continue;
        if (overdetermined) size *= norm(a.transpose() * (r.col(j) / size)) / norm_t;
        const double error = size / norm_a / (norm(x.col(j)) + norm(b.col(j)) / norm_a);
        if (!std::isfinite(error)) return error;  // max would lose a NaN
        worst = std::max(worst, error);
    }
    return worst;
}

// Bound of ||x - exact|| / ||x||, as src/tasks/solve/condition.rs has it: 2 (backward error + rounding of the residual)
// / rcond, where rounding is sqrt(n) units. None if A is singular to working precision.
std::optional<double> forward_error_bound(Index n, double error, double rcond) {
    if (rcond < epsilon) return std::nullopt;
    return 2.0 * (error + epsilon / 2.0 * std::sqrt(static_cast<double>(n))) / rcond;
}

template <class Matrix>
Solution solve(const System& system, const Matrix& a) {
    const auto started = Clock::now();
    const MatrixXd b = system.b_by_columns ? MatrixXd(ColMajor(system.b, system.m, system.nrhs))
                                           : MatrixXd(RowMajor(system.b, system.m, system.nrhs));
    check(system, a, b);
    const bool by_lu = system.method != "lstsq";
    Clock::time_point factored;
    auto [x, rcond] = by_lu ? solve_by_lu(a, system.a_by_columns, b, factored) : solve_least_squares(a, b, factored);
    const double norm_a = norm(a);
    const double error = backward_error(a, norm_a, x, b);
    if (!(std::isfinite(norm_a) && std::isfinite(error) && x.allFinite()))
        invalid("a row of A or the answer exceeds the range of f64: scale A and B");
    Certificate certificate;
    certificate.method = by_lu ? "lu" : "lstsq";
    certificate.backward_error = error;
    certificate.rcond = rcond;
    if (by_lu) certificate.forward_error_bound = forward_error_bound(system.n, error, rcond);
    certificate.threads = static_cast<std::uint32_t>(Eigen::nbThreads());
    certificate.factor_seconds = std::chrono::duration<double>(factored - started).count();
    certificate.solve_seconds = seconds_since(factored);
    return {std::move(x), std::move(certificate)};
}

Solution solve(const System& system) {
    return system.a_by_columns ? solve(system, ColMajor(system.a, system.m, system.n))
                               : solve(system, RowMajor(system.a, system.m, system.n));
}

// -- The forms of tasks and answers ----------------------------------------------------------------------------------

constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string to_base64(const std::string& bytes) {
    std::string text;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        std::uint32_t bits = 0;
        const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
        for (std::size_t i = 0; i < 3; ++i)
            bits = bits << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0);
        for (std::size_t i = 0; i < 4; ++i) text += i <= count ? base64_digits[bits >> (18 - 6 * i) & 63] : '=';
    }
    return text;
}

std::string from_base64(std::string_view text) {
    std::string bytes;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char digit : text) {
        const auto value = base64_digits.find(digit);
        if (value == std::string_view::npos) break;
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        count += 6;
        if (count >= 8) bytes += static_cast<char>(bits >> (count -= 8) & 255);
    }
    return bytes;
}

// Reads and writes the fields of a record, little-endian, nothing between.
template <class Number>
Number take(const std::string& bytes, std::size_t& at) {
    Number number;
    if (bytes.size() - at < sizeof number) throw std::runtime_error("the parameters are too short");
    std::memcpy(&number, bytes.data() + at, sizeof number);
    at += sizeof number;
    return number;
}

template <class Number>
void put(std::string& bytes, Number number) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

System read_binary(const std::string& params, const std::vector<double>& numbers) {
    constexpr std::array methods{"auto", "lu", "mixed", "cholesky", "triangular", "lstsq"};
    System system;
    std::size_t at = 0;
    system.m = static_cast<Index>(take<std::uint64_t>(params, at));
    system.n = static_cast<Index>(take<std::uint64_t>(params, at));
    system.nrhs = static_cast<Index>(take<std::uint64_t>(params, at));
    system.a_by_columns = take<std::uint8_t>(params, at) != 0;
    system.b_by_columns = take<std::uint8_t>(params, at) != 0;
    system.b_is_vector = take<std::uint8_t>(params, at) != 0;
    system.method = methods.at(take<std::uint8_t>(params, at));
    system.reproducible = take<std::uint8_t>(params, at) != 0;
    if (static_cast<Index>(numbers.size()) != system.m * (system.n + system.nrhs))
        throw std::runtime_error("the payload has another length than its parameters say");
    system.a = numbers.data();
    system.b = numbers.data() + system.m * system.n;
    return system;
}

std::string binary_params(const System& system, const Certificate& certificate) {
    std::string bytes;
    put<std::uint64_t>(bytes, static_cast<std::uint64_t>(system.n));
    put<std::uint64_t>(bytes, static_cast<std::uint64_t>(system.nrhs));
    put<std::uint8_t>(bytes, system.b_by_columns);
    put<std::uint8_t>(bytes, system.b_is_vector);
    put<std::uint8_t>(bytes, certificate.method == "lu" ? 1 : 5);
    bytes.append(3, '\0');  // methods tried
    put(bytes, certificate.backward_error);
    put(bytes, certificate.rcond);
    put(bytes, certificate.forward_error_bound.value_or(std::numeric_limits<double>::infinity()));
    put<std::uint32_t>(bytes, 0);  // refinement steps
    put(bytes, certificate.threads);
    put(bytes, certificate.factor_seconds);
    put(bytes, certificate.solve_seconds);
    put<std::uint64_t>(bytes, 0);  // length of the setting
    return bytes;
}

// Reads a matrix, or a vector as one column, by rows; its shape.
std::pair<Index, Index> read_rows(const json& rows, std::vector<double>& numbers) {
    const auto wrong = [] { invalid("A and B are lists of rows of numbers, all of one length"); };
    if (!rows.is_array() || rows.empty()) wrong();
    const bool vector = !rows.front().is_array();
    const std::size_t width = vector ? 1 : rows.front().size();
    numbers.reserve(numbers.size() + rows.size() * width);
    for (const json& row : rows) {
        if (row.is_array() == vector || (!vector && row.size() != width)) wrong();
        if (vector) numbers.push_back(row.get<double>());
        else for (const json& number : row) numbers.push_back(number.get<double>());
    }
    return {static_cast<Index>(rows.size()), static_cast<Index>(width)};
}

// The numbers of A and B go to `numbers`.
System read_json(const json& payload, std::vector<double>& numbers) {
    System system;
    std::tie(system.m, system.n) = read_rows(payload.at("a"), numbers);
    const auto [rows, nrhs] = read_rows(payload.at("b"), numbers);
    if (rows != system.m) invalid("A and B differ in their number of rows");
    system.nrhs = nrhs;
    system.b_is_vector = !payload.at("b").front().is_array();
    system.method = payload.value("method", "auto");
    system.reproducible = payload.value("reproducible", false);
    system.a = numbers.data();
    system.b = numbers.data() + system.m * system.n;
    return system;
}

std::string write_json(const System& system, const MatrixXd& x, const Certificate& certificate) {
    json rows = json::array();
    for (Index i = 0; i < x.rows(); ++i) {
        if (system.b_is_vector) {
            rows.push_back(x(i, 0));
            continue;
        }
        json row = json::array();
        for (Index j = 0; j < x.cols(); ++j) row.push_back(x(i, j));
        rows.push_back(std::move(row));
    }
    const auto& bound = certificate.forward_error_bound;
    const json document = {
        {"method", certificate.method},
        {"tried", json::array()},
        {"backward_error", certificate.backward_error},
        {"rcond", certificate.rcond},
        {"forward_error_bound", bound ? json(*bound) : json()},
        {"iterations", 0},
        {"threads", certificate.threads},
        {"factor_seconds", certificate.factor_seconds},
        {"solve_seconds", certificate.solve_seconds},
        {"reproducible", nullptr},
    };
    return json{{"x", std::move(rows)}, {"certificate", document}}.dump();
}

// -- The bridge ------------------------------------------------------------------------------------------------------

// The bridge said no.
struct Refused : std::runtime_error {
    Refused(long status, const std::string& detail)
        : runtime_error(std::to_string(status) + ": " + detail), status(status) {}
    long status;
};

// The connection was lost, or there was none.
struct Lost : std::runtime_error {
    using runtime_error::runtime_error;
};

struct Response {
    long status = 0;
    std::map<std::string, std::string> headers;  // names in small letters
    std::vector<double> words;                   // the body, where numbers may begin
    std::size_t bytes = 0;

    std::string_view text() const { return {reinterpret_cast<const char*>(words.data()), bytes}; }
};

struct Request {
    const char* method;
    std::string path;
    std::vector<std::string> headers;
    // Has to live until the call returns.
    std::string_view body;
};

// One connection to the bridge, opened anew by libcurl when it is lost.
class Bridge {
public:
    Bridge(std::string url, std::string token) : url(std::move(url)), token(std::move(token)), curl(curl_easy_init()) {
        if (!curl) throw std::runtime_error("libcurl does not start");
    }
    Bridge(const Bridge&) = delete;
    Bridge& operator=(const Bridge&) = delete;
    ~Bridge() { curl_easy_cleanup(curl); }

    // Throws Refused, Lost, or Stop if a signal comes meanwhile.
    Response call(const Request& request) {
        Response response;
        curl_easy_reset(curl);
        curl_slist* list = nullptr;
        for (const auto& header : request.headers) list = curl_slist_append(list, header.c_str());
        if (!token.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + token).c_str());
        const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list, curl_slist_free_all);
        curl_easy_setopt(curl, CURLOPT_URL, (url + request.path).c_str());
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        // libcurl itself does not look at it, unlike OpenSSL's other users.
        if (const char* file = std::getenv("SSL_CERT_FILE")) curl_easy_setopt(curl, CURLOPT_CAINFO, file);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
        if (!request.body.empty()) {
            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
            curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
        }
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method);
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, silence_seconds);
        curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(curl, CURLOPT_HEADERDATA, &response);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, &response);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, this);
        const CURLcode code = curl_easy_perform(curl);
        if (code == CURLE_ABORTED_BY_CALLBACK) throw Stop{};
        if (code != CURLE_OK) throw Lost(curl_easy_strerror(code));
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response.status);
        if (response.status >= 400) {
            const json problem = json::parse(response.text(), nullptr, false);
            const bool known = problem.is_object() && problem.contains("detail");
            throw Refused(response.status, known ? problem["detail"].get<std::string>() : std::string(response.text()));
        }
        return response;
    }

    Response call_json(const char* method, const std::string& path, const json& document, const char* accept) {
        const std::string body = document.dump();
        return call({method, path, {"Content-Type: application/json", std::string("Accept: ") + accept}, body});
    }

    // Signals no longer end a call.
    void finish() { finishing = true; }

private:
    static std::size_t on_header(char* data, std::size_t, std::size_t size, void* to) {
        auto& response = *static_cast<Response*>(to);
        const std::string_view line(data, size);
        const auto colon = line.find(':');
        if (colon == std::string_view::npos) return size;
        std::string name(line.substr(0, colon));
        for (char& letter : name) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
        const auto begin = line.find_first_not_of(' ', colon + 1);
        const auto end = line.find_last_not_of(" \r\n");
        if (begin == std::string_view::npos || end < begin) return size;
        const std::string value(line.substr(begin, end - begin + 1));
        if (name == "content-length") response.words.reserve((std::strtoull(value.c_str(), nullptr, 10) + 7) / 8);
        response.headers[name] = value;
        return size;
    }

    static std::size_t on_body(char* data, std::size_t, std::size_t size, void* to) {
        auto& response = *static_cast<Response*>(to);
        response.words.resize((response.bytes + size + 7) / 8);
        std::memcpy(reinterpret_cast<char*>(response.words.data()) + response.bytes, data, size);
        response.bytes += size;
        return size;
    }

    static int on_progress(void* bridge, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
        return stop_signal != 0 && !static_cast<Bridge*>(bridge)->finishing;
    }

    std::string url, token;
    CURL* curl;
    bool finishing = false;
};

struct Lease {
    std::string id, task;
    double expires_in = 0.0;
    std::string params;     // of a binary task
    Response response;      // its numbers, or its JSON
};

// A task being computed in a thread of its own.
class Computation {
public:
    // The thread has its share of it: the program may drop it, and end, while it computes.
    static std::shared_ptr<Computation> start(std::shared_ptr<const Lease> lease) {
        auto computation = std::make_shared<Computation>();
        std::thread([computation, lease = std::move(lease)] { computation->run(*lease); }).detach();
        return computation;
    }

    // Waits for its end; false if it has not come.
    bool wait(std::chrono::duration<double> time) {
        std::unique_lock lock(mutex);
        return changed.wait_for(lock, time, [this] { return ended; });
    }

    // After its end:
    std::optional<json> error;   // why there is no answer
    std::string params, body;    // the answer; without parameters it is in JSON
    std::string summary;
    double seconds = 0.0;

private:
    void run(const Lease& lease) {
        const auto started = Clock::now();
        try {
            compute(lease);
        } catch (const TaskError& failure) {
            error = failure.document;
        } catch (const std::bad_alloc&) {
            error = {{"code", "failed"}, {"message", "out of memory"}};
        } catch (const std::exception& failure) {
            error = {{"code", "failed"}, {"message", failure.what()}};
        }
        if (error) summary += error->contains("message") ? error->at("message").get<std::string>() : error->dump();
        seconds = seconds_since(started);
        const std::lock_guard lock(mutex);
        ended = true;
        changed.notify_all();
    }

    void compute(const Lease& lease) {
        std::vector<double> numbers;
        const bool binary = !lease.params.empty();
        const System system = binary ? read_binary(lease.params, lease.response.words)
                                     : read_json(json::parse(lease.response.text()).at("payload"), numbers);
        summary = std::to_string(system.m) + " x " + std::to_string(system.n) + ", ";
        const auto [x, certificate] = solve(system);
        if (binary) {
            params = binary_params(system, certificate);
            body.resize(static_cast<std::size_t>(x.size()) * sizeof(double));
            auto* to = reinterpret_cast<double*>(body.data());
            if (system.b_by_columns) Eigen::Map<MatrixXd>(to, x.rows(), x.cols()) = x;
            else Eigen::Map<RowMajorMatrix>(to, x.rows(), x.cols()) = x;
        } else {
            body = write_json(system, x, certificate);
        }
        std::ostringstream text;
        text.precision(2);
        text << certificate.method << ", backward error " << certificate.backward_error;
        summary += text.str();
    }

    std::mutex mutex;
    std::condition_variable changed;
    bool ended = false;
};

struct Options {
    std::string bridge = "http://127.0.0.1:8080", token, name = "eigen";
    bool json = false, quiet = false;
    long count = 0;
};

// Leases one task after another. This thread speaks to the bridge, and another one computes: there is no way to
// interrupt Eigen.
class Minion {
public:
    explicit Minion(Options options)
        : options(std::move(options)), bridge(this->options.bridge, this->options.token) {}

    int run() {
        int code = 0;
        try {
            code = work_until_done();
        } catch (const Stop&) {
            if (lease) give_back();
            code = stop_signal == SIGINT ? 130 : 0;
        }
        std::ostringstream text;
        text << done << " solved, " << failed << " failed, " << dropped << " dropped, " << compute_seconds
             << " s of computation";
        say(text.str());
        return code;
    }

private:
    void say(const std::string& text) const {
        if (!options.quiet) std::cerr << "minion_eigen: " + text + "\n" << std::flush;
    }

    int work_until_done() {
        double backoff = 0.5;
        std::minstd_rand random(std::random_device{}());
        while (options.count == 0 || done + failed < options.count) {
            std::string reason;
            try {
                lease = next();
                if (lease) work();
                lease.reset();
                backoff = 0.5;
                continue;
            } catch (const Refused& refused) {
                // Wrong in itself, and not only now: no token, an unknown kind, no bridge at this address.
                for (const long status : {400L, 401L, 403L, 404L, 405L, 406L}) {
                    if (refused.status != status) continue;
                    std::cerr << "minion_eigen: the bridge refuses this worker: " << refused.what() << std::endl;
                    return 1;
                }
                reason = refused.what();
            } catch (const Lost& lost) {
                reason = lost.what();
            }
            const double pause = std::uniform_real_distribution(0.5, 1.0)(random) * backoff;
            std::ostringstream text;
            text.precision(2);
            text << reason << "; asking again in " << pause << " s";
            say(text.str());
            sleep(pause);
            backoff = std::min(2.0 * backoff, backoff_seconds_max);
        }
        return 0;
    }

    // Sleeps, unless a signal comes.
    static void sleep(double seconds) {
        const auto started = Clock::now();
        while (seconds_since(started) < seconds) {
            if (stop_signal != 0) throw Stop{};
            std::this_thread::sleep_for(look);
        }
    }

    // The next task, or none if none came in time.
    std::shared_ptr<const Lease> next() {
        std::array<char, 256> host{};
        gethostname(host.data(), host.size() - 1);
        const json worker = {
            {"name", options.name},
            {"host", host.data()},
            {"pid", getpid()},
            {"cores", std::thread::hardware_concurrency()},
            {"version", "eigen " + std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "."
                            + std::to_string(EIGEN_MINOR_VERSION)},
        };
        const json wanted = {{"kinds", {"solve"}}, {"wait", wait_seconds}, {"worker", worker}};
        auto next = std::make_shared<Lease>();
        next->response = bridge.call_json("POST", "/v1/leases", wanted,
                                          options.json ? "application/json" : "application/x-rabbitry");
        if (next->response.status == 204) return nullptr;
        if (options.json) {
            // The payload is parsed by who computes.
            const json said = json::parse(next->response.text(), [](int depth, json::parse_event_t event, json& value) {
                return !(depth == 1 && event == json::parse_event_t::key && value == "payload");
            });
            next->id = said.at("lease");
            next->task = said.at("task");
            next->expires_in = said.at("expires_in");
        } else {
            const auto& said = next->response.headers;
            next->id = said.at("rabbitry-lease");
            next->task = said.at("rabbitry-task");
            next->expires_in = std::stod(said.at("rabbitry-expires-in"));
            next->params = from_base64(said.at("rabbitry-params"));
        }
        return next;
    }

    // Computes a task, renews its lease as long as that takes, and answers.
    void work() {
        const auto computation = Computation::start(lease);
        std::optional<std::string> stopped;
        double expires_in = lease->expires_in;
        auto renewed = Clock::now();
        // What was stopped computes on, and keeps this worker from the next task: there is no way to end Eigen.
        while (!computation->wait(look)) {
            if (stop_signal != 0) throw Stop{};
            if (stopped || seconds_since(renewed) < expires_in / 3.0) continue;
            renewed = Clock::now();
            try {
                expires_in = renew();
            } catch (const Refused& refused) {
                stopped = refused.what();
            } catch (const Lost&) {
                // It is good for another attempt or two; whether it held shows with the answer.
            }
        }
        compute_seconds += computation->seconds;
        if (!stopped) {
            try {
                answer(*computation);
            } catch (const Refused& refused) {
                stopped = refused.what();
            } catch (const Lost& lost) {
                stopped = lost.what();
            }
        }
        ++(stopped ? dropped : computation->error ? failed : done);
        std::ostringstream text;
        text.precision(3);
        text << "task " << lease->task << ": " << computation->summary << ", " << computation->seconds << " s"
             << (stopped ? "; dropped: " + *stopped : "");
        say(text.str());
    }

    std::string path(const char* rest = "") const { return "/v1/leases/" + lease->id + rest; }

    // Seconds until the lease is over. Throws Refused if it is.
    double renew() {
        const json said = json::parse(bridge.call_json("PATCH", path(), json::object(), "application/json").text());
        const json& stopped = said.at("stopped");
        if (!stopped.is_null()) throw Refused(stopped.at("status"), stopped.at("detail"));
        return said.at("expires_in");
    }

    // Ends the lease. Throws Refused if it had ended.
    void answer(const Computation& computation) {
        Request request{"PUT", path("/result"), {"Content-Type: application/json"}, computation.body};
        std::string error;
        if (computation.error) {
            error = computation.error->dump();
            request.path = path("/error");
            request.body = error;
        } else if (!computation.params.empty()) {
            request.headers = {"Content-Type: application/x-rabbitry",
                               "Rabbitry-Params: " + to_base64(computation.params)};
        }
        for (;;) {
            try {
                bridge.call(request);
                return;
            } catch (const Refused& refused) {
                if (refused.status == 400 || refused.status == 413 || refused.status == 422) {
                    // It will not do, and this worker has no better one. The lease is open.
                    const json failure = {{"code", "failed"},
                                          {"message", std::string("the answer was refused: ") + refused.what()}};
                    bridge.call_json("PUT", path("/error"), failure, "*/*");
                }
                if (refused.status != 503) throw;
                // No room for the answer at the moment.
            }
            sleep(2.0);
            renew();
        }
    }

    void give_back() {
        bridge.finish();
        try {
            bridge.call({"DELETE", path(), {}, {}});
            say("gave the task " + lease->task + " back");
        } catch (const std::runtime_error&) {
            // It was over, or there is no bridge.
        }
    }

    Options options;
    Bridge bridge;
    std::shared_ptr<const Lease> lease;
    long done = 0, failed = 0, dropped = 0;
    double compute_seconds = 0.0;
};

const char* const usage = R"(A Rabbitry worker with Eigen.

Usage: minion_eigen [OPTIONS]

  --bridge URL       default: http://127.0.0.1:8080
  --token-file FILE  the bearer token, on its first line
  --name NAME        in the directory of workers (default: eigen)
  --json             exchange tasks as JSON: slower, simpler
  --count K          end after K tasks
  --threads N        of Eigen (default: the cores)
  -q, --quiet        no lines about tasks on stderr
  -h, --help         print this
)";

[[noreturn]] void misused(const std::string& why) {
    std::cerr << "minion_eigen: " << why << "\n\n" << usage;
    std::exit(2);
}

long number(const char* option, const char* text, long least) {
    char* end = nullptr;
    errno = 0;
    const long value = std::strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || errno != 0 || value < least)
        misused(std::string(option) + ": " + text + " is no number from " + std::to_string(least) + " on");
    return value;
}

Options parse(int argc, char** argv) {
    enum { bridge = 1, token_file, name, as_json, count, threads };
    const option known[] = {
        {"bridge", required_argument, nullptr, bridge}, {"token-file", required_argument, nullptr, token_file},
        {"name", required_argument, nullptr, name},     {"json", no_argument, nullptr, as_json},
        {"count", required_argument, nullptr, count},   {"threads", required_argument, nullptr, threads},
        {"quiet", no_argument, nullptr, 'q'},           {"help", no_argument, nullptr, 'h'},
        {nullptr, 0, nullptr, 0},
    };
    Options options;
    for (int found; (found = getopt_long(argc, argv, "qh", known, nullptr)) != -1;) {
        switch (found) {
        case bridge: options.bridge = optarg; break;
        case token_file: {
            std::ifstream file(optarg);
            if (!std::getline(file, options.token)) misused(std::string(optarg) + ": there is no token in it");
            break;
        }
        case name: options.name = optarg; break;
        case as_json: options.json = true; break;
        case count: options.count = number("--count", optarg, 1); break;
        case threads: Eigen::setNbThreads(static_cast<int>(number("--threads", optarg, 1))); break;
        case 'q': options.quiet = true; break;
        case 'h': std::cout << usage; std::exit(0);
        default: std::exit(2);  // getopt has said why
        }
    }
    if (optind < argc) misused(std::string("what is ") + argv[optind] + "?");
    while (!options.bridge.empty() && options.bridge.back() == '/') options.bridge.pop_back();
    if (options.bridge.rfind("http://", 0) != 0 && options.bridge.rfind("https://", 0) != 0)
        misused(options.bridge + " is no address of a bridge: write http://HOST:PORT");
    return options;
}

}  // namespace

int main(int argc, char** argv) {
    Options options = parse(argc, argv);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    struct sigaction action {};
    action.sa_handler = on_signal;
    // The second one ends the program at once.
    action.sa_flags = SA_RESETHAND;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    // Not the way through destructors: a thread may compute on.
    int code = 1;
    try {
        code = Minion(std::move(options)).run();
    } catch (const std::exception& error) {
        std::cerr << "minion_eigen: " << error.what() << '\n';
    }
    std::_Exit(code);
}
