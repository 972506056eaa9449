/* A clock that is off by RABBITRY_TEST_CLOCK_SECONDS, for a program that this is loaded into before libc. Only the time of
   day: what measures durations is left alone. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long failed = syscall(SYS_clock_gettime, clock, now);
    const char *seconds = getenv("RABBITRY_TEST_CLOCK_SECONDS");
    if (!failed && clock == CLOCK_REALTIME && seconds)
        now->tv_sec += atol(seconds);
    return (int)failed;
}
