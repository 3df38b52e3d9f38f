/* Calls a kernel as XLA does, on another processor: buffers come from a file and go to one.
 *
 * The file holds the numbers of inputs and outputs; of each its bytes, its two leading sizes and the
 * input whose place it takes (-1: none); then the inputs. Every buffer ends where memory may not be
 * touched.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct buffer { size_t size; void *extension; int dtype; void *data; int64_t rank; int64_t *dims; };
struct buffers { size_t size; void *extension; int64_t count; void *types; struct buffer **held; };
struct frame {
    size_t size; void *extension, *api, *context; int stage; struct buffers args, rets;
};
struct request { size_t size; void *extension, *context; void (*task)(void *); void *data; };

extern void *handler(struct frame *);

static pthread_t helpers[64];
static int helper_count;

static void must(int held) {
    if (!held) exit(4);
}

/* Subnormal numbers are zero, as in XLA's threads. */
static void flush_subnormals(void) {
#ifdef __aarch64__
    __asm__ volatile("msr fpcr, %0" ::"r"(1ul << 24));
#endif
}

static void *help(void *given) {
    struct request *request = given;
    flush_subnormals();
    request->task(request->data);
    free(request);
    return NULL;
}

static void *schedule(struct request *request) {
    struct request *kept = malloc(sizeof *kept);
    *kept = *request;
    must(helper_count < 64 && !pthread_create(&helpers[helper_count++], NULL, help, kept));
    return NULL;
}

static void *fenced(size_t bytes) {
    size_t page = 4096, room = (bytes + page - 1) / page * page;
    char *base = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + room, page, PROT_NONE)) exit(3);
    return base + room - bytes;
}

int main(int count, char **paths) {
    must(count == 3);
    FILE *in = fopen(paths[1], "rb"), *out = fopen(paths[2], "wb");
    int64_t counts[2];
    must(in && out && fread(counts, 8, 2, in) == 2);
    int64_t all = counts[0] + counts[1];
    struct { int64_t bytes, dims[2], place; } *told = calloc(all, sizeof *told);
    must(fread(told, sizeof *told, all, in) == (size_t)all);
    struct buffer *made = calloc(all, sizeof *made), **held = calloc(all, sizeof *held);
    for (int64_t k = 0; k < all; k++) {
        void *data = told[k].place < 0 ? fenced(told[k].bytes) : made[told[k].place].data;
        made[k] = (struct buffer){sizeof *made, NULL, 11, data, 2, told[k].dims};
        held[k] = &made[k];
        if (k < counts[0]) must(fread(data, 1, told[k].bytes, in) == (size_t)told[k].bytes);
    }
    void *api[32] = {(void *)sizeof api};
    api[136 / 8] = (void *)schedule;
    struct frame frame = {
        .size = sizeof frame, .api = api,
        .args = {sizeof(struct buffers), NULL, counts[0], NULL, held},
        .rets = {sizeof(struct buffers), NULL, counts[1], NULL, held + counts[0]},
    };
    flush_subnormals();
    if (handler(&frame)) return 5;
    while (helper_count) must(!pthread_join(helpers[--helper_count], NULL));
    for (int64_t k = counts[0]; k < all; k++)
        must(fwrite(made[k].data, 1, told[k].bytes, out) == (size_t)told[k].bytes);
    must(fclose(out) == 0);
    return 0;
}
