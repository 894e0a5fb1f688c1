/* Allocations that fail. */
#include "memory_faults.h"

#include <stdatomic.h>
#include <stddef.h>

static atomic_long left = -1; /* allocations until one fails; negative: none does */
static atomic_bool lasting;   /* all further ones fail as well */
static atomic_bool failed;
static atomic_bool is_choosy; /* only threads that are watched */
static _Thread_local bool is_watched;

static void begin(long at, bool is_lasting) {
    atomic_store(&failed, false);
    atomic_store(&lasting, is_lasting);
    atomic_store(&left, at);
}

void memory_faults_set(long at) {
    begin(at, false);
}

void memory_faults_from(long at) {
    begin(at, true);
}

void memory_faults_watch_this_thread(void) {
    is_watched = true;
    atomic_store(&is_choosy, true);
}

bool memory_faults_failed(void) {
    return atomic_load(&failed);
}

/* Whether it is this allocation's turn. The count stays at 0 where failing is lasting. */
static bool fails(void) {
    if (atomic_load(&is_choosy) && !is_watched)
        return false;
    long now = atomic_load(&left);
    while (now > 0 && !atomic_compare_exchange_weak(&left, &now, now - 1))
        ;
    if (now != 0 || (!atomic_load(&lasting) && !atomic_compare_exchange_strong(&left, &now, -1)))
        return false;
    atomic_store(&failed, true);
    return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size) {
    return fails() ? NULL : __real_realloc(memory, size);
}

void *__real_reallocarray(void *memory, size_t count, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size) {
    return fails() ? NULL : __real_reallocarray(memory, count, size);
}

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text) {
    return fails() ? NULL : __real_strdup(text);
}
