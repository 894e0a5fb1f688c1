/* The confinement: what it denies, and what it still allows. Each case is a process of its own,
 * because a process cannot leave its confinement. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "cmd/confine.h"

static char outside[] = "/tmp/tarn-confine-XXXXXX"; /* outside/root is the cache's root */
static char root[sizeof outside + 8];

/* In the child process: prints the line of a condition that fails, and ends the process. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "# %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);    \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static const char *at(const char *folder, const char *name) {
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Confines a process that has no credentials (NULL), or those of a helper program. */
static void confine_with(struct credential_source *credentials) {
    struct upstream_settings upstream = {.host = "fake.test", .credentials = credentials};
    struct config config = {.root = root,
                            .confine = credentials ? CONFIG_CONFINE_AUTO : CONFIG_CONFINE_REQUIRE,
                            .upstreams = &upstream,
                            .upstream_count = 1};
    struct error error = {0};
    log_configure(LOG_ERROR, LOG_TEXT);
    if (!confine(&config, &error)) {
        fprintf(stderr, "# %s\n", error.text);
        _exit(1);
    }
    credential_source_free(credentials);
}

/* Confines a process as tarn keep does. */
static void confine_as_keep(const char *program) {
    const struct config config = {.confine =
                                      program ? CONFIG_CONFINE_AUTO : CONFIG_CONFINE_REQUIRE};
    struct error error = {0};
    log_configure(LOG_ERROR, LOG_TEXT);
    if (!confine_keep(&config, program, &error)) {
        fprintf(stderr, "# %s\n", error.text);
        _exit(1);
    }
}

/* Runs `body` in a process of its own. The test fails unless that process ends with status 0. */
static void in_child(void (*body)(void)) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- files ---- */

static bool can_make(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static void write_only_below_root(void) {
    CHECK(mkdir(at(outside, "other"), 0700) == 0);
    CHECK(can_make(at(outside, "there")));
    confine_with(NULL);
    CHECK(!can_make(at(outside, "new")) && errno == EACCES);
    CHECK(open(at(outside, "there"), O_WRONLY | O_CLOEXEC) < 0 && errno == EACCES);
    CHECK(truncate(at(outside, "there"), 0) < 0 && errno == EACCES);
    CHECK(unlink(at(outside, "there")) < 0 && errno == EACCES);
    CHECK(mkdir(at(outside, "folder"), 0700) < 0 && errno == EACCES);
    CHECK(rmdir(at(outside, "other")) < 0 && errno == EACCES);
    CHECK(rename(at(outside, "there"), at(outside, "gone")) < 0 && errno == EACCES);
    CHECK(symlink("/", at(root, "link")) < 0 && errno == EACCES);
    CHECK(mkfifo(at(root, "fifo"), 0600) < 0 && errno == EACCES);

    CHECK(mkdir(at(root, "a"), 0700) == 0 && mkdir(at(root, "b"), 0700) == 0);
    CHECK(can_make(at(root, "a/file")));
    CHECK(truncate(at(root, "a/file"), 10) == 0);
    CHECK(rename(at(root, "a/file"), at(root, "b/file")) == 0); /* between two folders */
    CHECK(rename(at(root, "b/file"), at(outside, "out")) < 0);
    CHECK(unlink(at(root, "b/file")) == 0 && rmdir(at(root, "a")) == 0);
}

static void test_it_writes_only_below_the_root(void **state) {
    (void)state;
    in_child(write_only_below_root);
}

static void reads_and_sockets_go_on(void) {
    confine_with(NULL);
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    close(fd);
    CHECK((fd = open("/dev/null", O_WRONLY | O_CLOEXEC)) >= 0);
    close(fd);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/tarn.sock", root);
    CHECK((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(unlink(address.sun_path) == 0);
    close(fd);
    CHECK((fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0 || errno == EAFNOSUPPORT);
    struct addrinfo *found = NULL;
    CHECK(getaddrinfo("localhost", "80", NULL, &found) == 0);
    freeaddrinfo(found);

    /* A blob that passes through, because the disk is full, is kept in such a file. */
    CHECK((fd = memfd_create("blob", MFD_CLOEXEC)) >= 0);
    CHECK(ftruncate(fd, 4096) == 0 && pwrite(fd, "x", 1, 100) == 1);
    close(fd);
}

static void test_reading_sockets_names_and_memory_files_go_on(void **state) {
    (void)state;
    in_child(reads_and_sockets_go_on);
}

/* ---- system calls ---- */

/* Whether the call fails with EPERM. */
static bool is_denied(long number, long a, long b, long c) {
    errno = 0;
    return syscall(number, a, b, c, 0L, 0L) < 0 && errno == EPERM;
}

static void deny_what_a_cache_never_needs(void) {
    /* Without the filter these calls do not fail with EPERM, so a later EPERM comes from the
     * filter. */
    CHECK(!is_denied(SYS_userfaultfd, -1, 0, 0));
    CHECK(!is_denied(SYS_io_uring_setup, 0, 0, 0));
    CHECK(!is_denied(SYS_process_vm_readv, 0, 0, 0));
    confine_with(NULL);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_SECCOMP) == 2);
    CHECK(is_denied(SYS_userfaultfd, -1, 0, 0));
    CHECK(is_denied(SYS_io_uring_setup, 0, 0, 0));
    CHECK(is_denied(SYS_process_vm_readv, 0, 0, 0));
    CHECK(is_denied(SYS_process_vm_writev, 0, 0, 0));
    CHECK(is_denied(SYS_bpf, BPF_MAP_CREATE, 0, 0));
    CHECK(is_denied(SYS_perf_event_open, 0, 0, 0));
    CHECK(is_denied(SYS_keyctl, 0, 0, 0));
    CHECK(is_denied(SYS_add_key, 0, 0, 0));
    CHECK(is_denied(SYS_mount, 0, 0, 0));
    CHECK(is_denied(SYS_unshare, CLONE_NEWUSER, 0, 0));
    CHECK(is_denied(SYS_setns, -1, 0, 0));
    CHECK(is_denied(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0));
    CHECK(is_denied(SYS_init_module, 0, 0, 0));
    CHECK(is_denied(SYS_kexec_load, 0, 0, 0));
    CHECK(is_denied(SYS_open_by_handle_at, -1, 0, 0));
    CHECK(is_denied(SYS_personality, 0xffffffff, 0, 0));
    CHECK(is_denied(SYS_chroot, 0, 0, 0));
    CHECK(is_denied(SYS_settimeofday, 0, 0, 0));
    CHECK(syscall(SYS_clone3, 0, 0) < 0 && errno == ENOSYS);
    CHECK(socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EAFNOSUPPORT);
    CHECK(socket(AF_VSOCK, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT);
    CHECK(socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0) < 0 && errno == EAFNOSUPPORT);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
               0) == MAP_FAILED &&
          errno == EPERM);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    CHECK(mprotect(page, 4096, PROT_READ | PROT_EXEC) < 0 && errno == EPERM);
}

static void test_what_a_cache_never_needs_is_denied(void **state) {
    (void)state;
    in_child(deny_what_a_cache_never_needs);
}

static void *probe(void *context) {
    bool *confined = context;
    *confined = is_denied(SYS_keyctl, 0, 0, 0) && !can_make(at(outside, "thread"));
    return NULL;
}

static void threads_inherit_it(void) {
    confine_with(NULL);
    pthread_t thread;
    bool confined = false;
    CHECK(pthread_create(&thread, NULL, probe, &confined) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(confined);
}

static void test_threads_started_later_have_it_too(void **state) {
    (void)state;
    in_child(threads_inherit_it);
}

#ifndef __has_feature
#define __has_feature(feature) 0 /* gcc has macros instead */
#endif
#if defined __SANITIZE_THREAD__ || __has_feature(thread_sanitizer)
#define HAS_SANITIZERS_THREAD 1
#else
#define HAS_SANITIZERS_THREAD 0
#endif

static void *wait_for_ever(void *context) {
    pause();
    return context;
}

static void refuse_late(void) {
    struct config config = {.root = root, .confine = CONFIG_CONFINE_REQUIRE};
    struct error error = {0};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
    CHECK(!confine(&config, &error));
    CHECK(strstr(error.text, "other threads"));
}

static void test_a_thread_that_would_stay_free_is_noticed(void **state) {
    (void)state;
    if (HAS_SANITIZERS_THREAD)
        return; /* ThreadSanitizer has a thread of its own, so confine() does not count threads */
    in_child(refuse_late);
}

/* ---- programs ---- */

/* Returns the exit status of the shell, or -1 when it could not be started. */
static int run_shell(const char *line) {
    int report[2], failure = 0, status = 0;
    CHECK(pipe2(report, O_CLOEXEC) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        failure = errno;
        (void)!write(report[1], &failure, sizeof failure);
        _exit(127);
    }
    close(report[1]);
    ssize_t got = read(report[0], &failure, sizeof failure);
    close(report[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    errno = failure;
    return got > 0 ? -1 : WEXITSTATUS(status);
}

static void no_programs(void) {
    confine_with(NULL);
    CHECK(run_shell("exit 3") == -1 && errno == EPERM);
}

static void test_no_program_is_started(void **state) {
    (void)state;
    in_child(no_programs);
}

static void helpers_go_on(void) {
    confine_with(credential_source_helper("lake"));
    char line[256];
    snprintf(line, sizeof line, "echo kept >%s/helpers && exit 3", outside);
    CHECK(run_shell(line) == 3);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(is_denied(SYS_keyctl, 0, 0, 0));
}

static void test_a_helper_program_runs_and_writes_where_it_likes(void **state) {
    (void)state;
    in_child(helpers_go_on);
}

static void refuse_with_a_helper(void) {
    struct upstream_settings upstream = {.credentials = credential_source_helper("lake")};
    struct config config = {.root = root,
                            .confine = CONFIG_CONFINE_REQUIRE,
                            .upstreams = &upstream,
                            .upstream_count = 1};
    struct error error = {0};
    CHECK(!confine(&config, &error));
    CHECK(strstr(error.text, "helper lake"));
    credential_source_free(upstream.credentials);
}

static void test_require_is_not_kept_with_a_helper_and_says_so(void **state) {
    (void)state;
    in_child(refuse_with_a_helper);
}

static void write_nowhere(void) {
    confine_as_keep(NULL);
    CHECK(!can_make(at(root, "kept")) && !can_make(at(outside, "kept")));
    CHECK(run_shell("exit 3") == -1 && errno == EPERM);
    CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static void test_keep_writes_nowhere_and_starts_nothing(void **state) {
    (void)state;
    in_child(write_nowhere);
}

static void start_what_the_kubeconfig_names(void) {
    confine_as_keep("the kubeconfig's exec");
    CHECK(run_shell("exit 3") == 3);
    CHECK(is_denied(SYS_keyctl, 0, 0, 0));
}

static void test_keep_starts_the_program_of_its_kubeconfig(void **state) {
    (void)state;
    in_child(start_what_the_kubeconfig_names);
}

static void off_is_off(void) {
    struct config config = {.root = root, .confine = CONFIG_CONFINE_OFF};
    log_configure(LOG_ERROR, LOG_TEXT);
    CHECK(confine(&config, NULL));
    CHECK(can_make(at(outside, "free")));
    CHECK(prctl(PR_GET_SECCOMP) == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

static void test_off_leaves_all_but_new_privileges(void **state) {
    (void)state;
    in_child(off_is_off);
}

static int make_folders(void **state) {
    (void)state;
    if (!mkdtemp(outside))
        return -1;
    snprintf(root, sizeof root, "%s/root", outside);
    return mkdir(root, 0700);
}

static int remove_folders(void **state) {
    (void)state;
    char line[sizeof outside + 16];
    snprintf(line, sizeof line, "rm -rf %s", outside);
    return run_shell(line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_writes_only_below_the_root),
        cmocka_unit_test(test_reading_sockets_names_and_memory_files_go_on),
        cmocka_unit_test(test_what_a_cache_never_needs_is_denied),
        cmocka_unit_test(test_threads_started_later_have_it_too),
        cmocka_unit_test(test_a_thread_that_would_stay_free_is_noticed),
        cmocka_unit_test(test_no_program_is_started),
        cmocka_unit_test(test_a_helper_program_runs_and_writes_where_it_likes),
        cmocka_unit_test(test_require_is_not_kept_with_a_helper_and_says_so),
        cmocka_unit_test(test_keep_writes_nowhere_and_starts_nothing),
        cmocka_unit_test(test_keep_starts_the_program_of_its_kubeconfig),
        cmocka_unit_test(test_off_leaves_all_but_new_privileges),
    };
    return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
