/* BLAKE2b (RFC 7693), keyed or not, digests of up to 64 bytes: the same as Python's hashlib, without an object.
 *
 * Its loops are not unrolled: one digest for each decision finds no code in the processor's caches, and less of it is
 * sooner there.
 */
#ifndef SEGUE_BLAKE2B_H
#define SEGUE_BLAKE2B_H
#include <stdint.h>
#include <string.h>

enum { BLAKE2B_BLOCK = 128, BLAKE2B_MOST = 64 };

typedef struct {
    uint64_t h[8];
    uint64_t hashed; /* bytes; no text has 2^64 */
    unsigned char block[BLAKE2B_BLOCK];
    size_t used; /* of the block: the last one is held back until it is known to be the last */
    size_t size; /* of the digest */
} Blake2b;

static const uint64_t BLAKE2B_START[8] = {
    0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
    0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL};

static const unsigned char BLAKE2B_ORDER[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static inline uint64_t blake2b_turned(uint64_t x, int by) { return x >> by | x << (64 - by); }

/* Machines are little-endian here: whoever uses this sees to it. */
static void blake2b_compress(Blake2b *self, int is_last)
{
    uint64_t v[16], m[16];
    memcpy(v, self->h, sizeof self->h);
    memcpy(v + 8, BLAKE2B_START, sizeof BLAKE2B_START);
    memcpy(m, self->block, sizeof m);
    v[12] ^= self->hashed;
    if (is_last) v[14] = ~v[14];
#pragma GCC unroll 1
    for (int round = 0; round < 12; round++) {
        const unsigned char *order = BLAKE2B_ORDER[round % 10];
#pragma GCC unroll 1
        for (int i = 0; i < 8; i++) { /* four columns, then four diagonals */
            const int by = i / 4;
            uint64_t *a = v + i % 4, *b = v + 4 + (i + by) % 4, *c = v + 8 + (i + 2 * by) % 4;
            uint64_t *d = v + 12 + (i + 3 * by) % 4;
            *a += *b + m[order[2 * i]];
            *d = blake2b_turned(*d ^ *a, 32);
            *c += *d;
            *b = blake2b_turned(*b ^ *c, 24);
            *a += *b + m[order[2 * i + 1]];
            *d = blake2b_turned(*d ^ *a, 16);
            *c += *d;
            *b = blake2b_turned(*b ^ *c, 63);
        }
    }
    for (int i = 0; i < 8; i++) self->h[i] ^= v[i] ^ v[i + 8];
}

static inline void blake2b_add(Blake2b *self, const void *data, size_t size)
{
    const unsigned char *at = data;
    while (size) {
        if (self->used == BLAKE2B_BLOCK) {
            self->hashed += BLAKE2B_BLOCK;
            blake2b_compress(self, 0);
            self->used = 0;
        }
        const size_t room = BLAKE2B_BLOCK - self->used, taken = size < room ? size : room;
        memcpy(self->block + self->used, at, taken);
        self->used += taken, at += taken, size -= taken;
    }
}

/* Begins a digest of `size` bytes (1 to 64); `key` has up to 64 bytes, or none. */
static inline void blake2b_begin(Blake2b *self, size_t size, const void *key, size_t key_size)
{
    memcpy(self->h, BLAKE2B_START, sizeof self->h);
    self->h[0] ^= 0x01010000 ^ key_size << 8 ^ size;
    self->hashed = self->used = 0;
    self->size = size;
    if (!key_size) return;
    memcpy(self->block, key, key_size);
    memset(self->block + key_size, 0, BLAKE2B_BLOCK - key_size);
    self->used = BLAKE2B_BLOCK;
}

/* Ends it, and writes the digest to where it has room. */
static inline void blake2b_end(Blake2b *self, unsigned char *digest)
{
    self->hashed += self->used;
    memset(self->block + self->used, 0, BLAKE2B_BLOCK - self->used);
    blake2b_compress(self, 1);
    memcpy(digest, self->h, self->size);
}

#endif
