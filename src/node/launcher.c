/*
 * Starts the program in a folder beside it, with the loader and the libraries of that folder.
 *
 * It is a program of its own that needs nothing of the machine but the kernel: no loader, no
 * library, no /proc. tarn has it built in (node/launcher.h) and writes a copy of it in which the
 * slot holds "FOLDER/LOADER". The copy at DIR/tarn then runs
 *
 *     DIR/FOLDER/LOADER --library-path DIR/FOLDER DIR/FOLDER/tarn ARGUMENT...
 *
 * with SSL_CERT_FILE=DIR/FOLDER/ca-certificates.crt, unless that variable is set. DIR is where the
 * kernel found the copy. One file says which folder counts, so that replacing that file replaces
 * the whole program at once.
 */
#include <stddef.h>

#define MARKER "tarn launcher slot:"

enum {
    SLOT_SIZE = 256,
    PATH_SIZE = 4096,
    ARGUMENTS_LIMIT = 256,
    VARIABLES_LIMIT = 4096,
};

/* The installer fills in what follows the marker. It is volatile, because the compiler must not
 * take the empty slot for granted. */
static const volatile char slot[SLOT_SIZE] = MARKER;

/* ---- the kernel ---- */

#if defined(__x86_64__)

enum { WRITE = 1, EXECVE = 59, EXIT = 60 };

__asm__(".text\n"
        ".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call begin\n"
        "    ud2\n");

static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

enum { WRITE = 64, EXECVE = 221, EXIT = 93 };

__asm__(".text\n"
        ".globl _start\n"
        "_start:\n"
        "    mov x29, #0\n"
        "    mov x30, #0\n"
        "    mov x0, sp\n"
        "    bl begin\n"
        "    brk #0\n");

static long call(long number, long a, long b, long c) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}

#else
/* cppcheck-suppress preprocessorErrorDirective */
#error "the launcher is not written for this processor"
#endif

/* ---- text ---- */

static size_t length_of(const char *text) {
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

static _Noreturn void fail(const char *what) {
    call(WRITE, 2, (long)"tarn: ", 6);
    call(WRITE, 2, (long)what, (long)length_of(what));
    call(WRITE, 2, (long)"\n", 1);
    for (;;)
        call(EXIT, 127, 0, 0);
}

struct path {
    char text[PATH_SIZE];
    size_t length;
};

static void append(struct path *path, const char *text, size_t length) {
    if (length >= PATH_SIZE - path->length)
        fail("the name of its folder is too long");
    for (size_t i = 0; i < length; i++)
        path->text[path->length++] = text[i];
    path->text[path->length] = '\0';
}

/* The length up to the last slash, with it; 0: there is none. */
static size_t folder_length(const char *path) {
    size_t length = length_of(path);
    while (length > 0 && path[length - 1] != '/')
        length--;
    return length;
}

/* ---- the program ---- */

static struct path loader, folder, program, authorities;
static char *arguments[ARGUMENTS_LIMIT + 5], *variables[VARIABLES_LIMIT + 2];

/* What the kernel says about the process: pairs of a type and a value (getauxval(3)). */
enum { AUXILIARY_END = 0, AUXILIARY_FILE_NAME = 31 };

/* Where the kernel found this file. */
static const char *find_self(char *const *after_variables) {
    const long *entry = (const long *)(const void *)after_variables;
    for (; entry[0] != AUXILIARY_END; entry += 2) {
        if (entry[0] == AUXILIARY_FILE_NAME)
            return (const char *)entry[1];
    }
    fail("the kernel does not say where this program is");
}

static void set_paths(const char *self) {
    static char name[SLOT_SIZE];
    const size_t skipped = sizeof MARKER - 1;
    for (size_t i = skipped; i < SLOT_SIZE - 1; i++)
        name[i - skipped] = slot[i];
    size_t inner = folder_length(name);
    if (inner == 0)
        fail("this launcher was not installed by tarn kubelet-credential-provider install");
    append(&loader, self, folder_length(self));
    append(&loader, name, length_of(name));
    append(&folder, self, folder_length(self));
    append(&folder, name, inner - 1);
    append(&program, folder.text, folder.length);
    append(&program, "/tarn", 5);
    append(&authorities, "SSL_CERT_FILE=", 14);
    append(&authorities, folder.text, folder.length);
    append(&authorities, "/ca-certificates.crt", 20);
}

static void set_arguments(long count, char **given) {
    size_t at = 0;
    arguments[at++] = loader.text;
    arguments[at++] = (char *)"--library-path";
    arguments[at++] = folder.text;
    arguments[at++] = program.text;
    if (count > ARGUMENTS_LIMIT)
        fail("there are too many arguments");
    for (long i = 1; i < count; i++)
        arguments[at++] = given[i];
}

/* Returns what follows the variables on the stack. */
static char **set_variables(char **given) {
    size_t count = 0;
    int is_set = 0;
    for (; given[count]; count++) {
        if (count == VARIABLES_LIMIT)
            fail("there are too many variables");
        variables[count] = given[count];
        size_t same = 0;
        while (same < 14 && given[count][same] == "SSL_CERT_FILE="[same])
            same++;
        is_set |= same == 14;
    }
    if (!is_set)
        variables[count] = authorities.text;
    return given + count + 1;
}

_Noreturn void begin(long *stack);
_Noreturn void begin(long *stack) {
    long count = *stack;
    char **given = (char **)(stack + 1);
    char **after_variables = set_variables(given + count + 1);
    set_paths(find_self(after_variables));
    set_arguments(count, given);
    call(EXECVE, (long)loader.text, (long)arguments, (long)variables);
    fail("the loader beside this program cannot be started; install it again");
}
