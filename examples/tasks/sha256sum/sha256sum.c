/*
 * SHA-256 of files and of stdin, and checking lists of them: a part of GNU sha256sum, in its formats.
 *
 *   sha256sum [FILE...]        "DIGEST  FILE" per file; "-", or no file at all, is stdin
 *   sha256sum --check [LIST]   reads such lines and says "FILE: OK" or "FILE: FAILED"
 *
 * Exit: 0 all well, 1 a file was unreadable or differs, 2 the list is malformed, 64 wrong arguments.
 * Follows FIPS 180-4, section 6.2.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    DIGEST_BYTES = 32,
    HEX_DIGITS = 2 * DIGEST_BYTES,
    BLOCK_BYTES = 64,
    LENGTH_BYTES = 8,
    READ_BYTES = 64 * 1024,
    /* Longest line of a list: a digest, two spaces and a path. */
    LINE_BYTES = 4096 + HEX_DIGITS + 3,
};

enum { EXIT_OK = 0, EXIT_DIFFERS = 1, EXIT_MALFORMED = 2, EXIT_USAGE = 64 };

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[BLOCK_BYTES];
};

static uint32_t rotate(uint32_t word, unsigned by) {
    return word >> by | word << (32 - by);
}

static void sha256_start(struct sha256 *sha) {
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(sha->state, first, sizeof first);
    sha->bytes = 0;
}

static void sha256_block(uint32_t state[8], const uint8_t block[BLOCK_BYTES]) {
    uint32_t w[64];
    for (int t = 0; t < 16; t++) {
        w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 |
               (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
    }
    for (int t = 16; t < 64; t++) {
        uint32_t small0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t small1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + small0 + w[t - 7] + small1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; t++) {
        uint32_t big1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t big0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t t1 = h + big1 + ((e & f) ^ (~e & g)) + round_constants[t] + w[t];
        uint32_t t2 = big0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void sha256_add(struct sha256 *sha, const uint8_t *data, size_t size) {
    size_t filled = sha->bytes % BLOCK_BYTES;
    sha->bytes += size;
    while (size > 0) {
        size_t take = BLOCK_BYTES - filled < size ? BLOCK_BYTES - filled : size;
        memcpy(sha->block + filled, data, take);
        data += take, size -= take, filled += take;
        if (filled == BLOCK_BYTES) {
            sha256_block(sha->state, sha->block);
            filled = 0;
        }
    }
}

static void sha256_finish(struct sha256 *sha, char hex[HEX_DIGITS + 1]) {
    uint64_t bits = sha->bytes * 8;
    static const uint8_t padding[BLOCK_BYTES] = {0x80};
    size_t filled = sha->bytes % BLOCK_BYTES;
    size_t room = BLOCK_BYTES - LENGTH_BYTES;
    sha256_add(sha, padding, filled < room ? room - filled : room + BLOCK_BYTES - filled);
    uint8_t length[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++) {
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    }
    sha256_add(sha, length, sizeof length);
    for (int i = 0; i < 8; i++) {
        snprintf(hex + 8 * i, 9, "%08x", (unsigned)sha->state[i]);
    }
}

/* Whether the path lies in a granted directory: then at least that directory exists for the guest. */
static int is_granted(const char *path) {
    static char parent[LINE_BYTES];
    struct stat found;
    if (strlen(path) >= sizeof parent) {
        return 1;
    }
    strcpy(parent, path);
    for (char *slash; (slash = strrchr(parent, '/')) != NULL;) {
        *slash = '\0';
        if (stat(slash == parent ? "/" : parent, &found) == 0) {
            return 1;
        }
    }
    return stat(".", &found) == 0;
}

/* Says on stderr why `path` cannot be used. WASI says "no such file" also where no directory was granted at all. */
static void complain(const char *path) {
    int error = errno;
    if (error == ENOENT && !is_granted(path)) {
        fprintf(stderr,
                "sha256sum: %s: no directory is granted there; grant one with --read HOSTDIR:GUESTDIR\n",
                path);
    } else {
        fprintf(stderr, "sha256sum: %s: %s\n", path, strerror(error));
    }
}

/* The digest of the file `path`, or of stdin for "-". Returns 0, or -1 after complaining. */
static int digest_of(const char *path, char hex[HEX_DIGITS + 1]) {
    static uint8_t buffer[READ_BYTES];
    int is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rb");
    if (!file) {
        complain(path);
        return -1;
    }
    struct sha256 sha;
    sha256_start(&sha);
    size_t got;
    while ((got = fread(buffer, 1, sizeof buffer, file)) > 0) {
        sha256_add(&sha, buffer, got);
    }
    int failed = ferror(file);
    if (failed) {
        complain(path);
    }
    if (!is_stdin) {
        fclose(file);
    }
    sha256_finish(&sha, hex);
    return failed ? -1 : 0;
}

/* Whether the line is 64 hexadecimal digits in lower case, a space, a space or '*', and a name. */
static int is_entry(const char *line) {
    if (strspn(line, "0123456789abcdef") != HEX_DIGITS || line[HEX_DIGITS] != ' ') {
        return 0;
    }
    char mode = line[HEX_DIGITS + 1];
    return (mode == ' ' || mode == '*') && line[HEX_DIGITS + 2] != '\0';
}

static int check_list(const char *list_path) {
    static char line[LINE_BYTES + 1];
    int is_stdin = strcmp(list_path, "-") == 0;
    FILE *list = is_stdin ? stdin : fopen(list_path, "r");
    if (!list) {
        complain(list_path);
        return EXIT_DIFFERS;
    }
    int status = EXIT_OK;
    unsigned long number = 0;
    while (fgets(line, sizeof line, list)) {
        number++;
        line[strcspn(line, "\n")] = '\0';
        if (!is_entry(line)) {
            fprintf(stderr, "sha256sum: %s: line %lu is not \"DIGEST  FILE\"\n", list_path, number);
            status = EXIT_MALFORMED;
            break;
        }
        const char *name = line + HEX_DIGITS + 2;
        char hex[HEX_DIGITS + 1];
        int matches = digest_of(name, hex) == 0 && memcmp(hex, line, HEX_DIGITS) == 0;
        printf("%s: %s\n", name, matches ? "OK" : "FAILED");
        if (!matches) {
            status = EXIT_DIFFERS;
        }
    }
    if (ferror(list)) {
        complain(list_path);
        status = EXIT_DIFFERS;
    }
    if (!is_stdin) {
        fclose(list);
    }
    return status;
}

static int print_digests(int count, char **paths) {
    static char *only_stdin[] = {"-"};
    if (count == 0) {
        count = 1;
        paths = only_stdin;
    }
    int status = EXIT_OK;
    for (int i = 0; i < count; i++) {
        char hex[HEX_DIGITS + 1];
        if (digest_of(paths[i], hex) == 0) {
            printf("%s  %s\n", hex, paths[i]);
        } else {
            status = EXIT_DIFFERS;
        }
    }
    return status;
}

int main(int argc, char **argv) {
    int check = argc > 1 && strcmp(argv[1], "--check") == 0;
    int first = check ? 2 : 1;
    if (first < argc && argv[first][0] == '-' && argv[first][1] != '\0') {
        fprintf(stderr, "sha256sum: unknown option %s; usage: sha256sum [FILE...] | --check [LIST]\n", argv[first]);
        return EXIT_USAGE;
    }
    if (check && argc > 3) {
        fprintf(stderr, "sha256sum: --check takes one list\n");
        return EXIT_USAGE;
    }
    int status = check ? check_list(argc > 2 ? argv[2] : "-") : print_digests(argc - first, argv + first);
    if (fflush(stdout) != 0) {
        complain("stdout");
        return EXIT_DIFFERS;
    }
    return status;
}
