/* The clock of a Redis server under test: stands still at the instant that a mapped file tells.
 *
 * Preloaded into redis-server, which asks gettimeofday for everything that expires and for TIME.
 * The file holds epoch milliseconds as one 64-bit integer; 0 lets time pass as it does.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *instant;

__attribute__((constructor)) static void map_instant(void) {
  int file = open(getenv("SERVER_CLOCK"), O_RDONLY);
  void *mapped = mmap(NULL, sizeof *instant, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) _exit(64);
  instant = mapped;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  int64_t milliseconds = instant ? *instant : 0;
  if (milliseconds == 0) {
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    now->tv_sec = real.tv_sec;
    now->tv_usec = real.tv_nsec / 1000;
  } else {
    now->tv_sec = milliseconds / 1000;
    now->tv_usec = milliseconds % 1000 * 1000;
  }
  return 0;
}
