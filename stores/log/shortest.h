/* Doubles as the shortest decimals that give them back, of those the nearest: Raffaello Giulietti's way ("The Schubfach
 * way to render doubles", 2020), and written as msgspec writes them.
 */
#ifndef SHORTEST_H
#define SHORTEST_H
#include <stdint.h>
#include <string.h>

enum { LEAST_POWER = -292, MOST_POWER = 324, POWERS = MOST_POWER - LEAST_POWER + 1, DIGITS = 24, FLOAT_MOST = 32 };

typedef unsigned __int128 Wide;
typedef struct {
    uint64_t high, low;
} Power; /* 10 ** k in its 128 highest bits, rounded up */

typedef struct {
    uint64_t digits;
    int exponent; /* of ten */
} Decimal;

/* (power * factor) >> 128, with its lowest bit set where anything was lost. */
static inline uint64_t times(Power power, uint64_t factor)
{
    const uint64_t carried = (uint64_t)(((Wide)power.low * factor) >> 64);
    const Wide product = (Wide)power.high * factor + carried;
    return (uint64_t)(product >> 64) | ((uint64_t)product > 1);
}

/* Of a finite double that is not 0; its sign is left out. `powers`: 10 ** LEAST_POWER and so on. */
static inline Decimal shortest(double value, const Power *powers)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint64_t fraction = bits & 0xFFFFFFFFFFFFF;
    const int field = (int)(bits >> 52 & 0x7FF);
    const uint64_t c = field ? fraction | (uint64_t)1 << 52 : fraction;
    const int q = field ? field - 1075 : -1074; /* the value is c * 2 ** q */
    if (q <= 0 && q > -53 && !(c & (((uint64_t)1 << -q) - 1))) return (Decimal){c >> -q, 0};

    /* Whatever lies between the middles to its two neighbours gives it back. Below a power of two they lie closer. */
    const int is_closer = !fraction && field > 1, is_odd = (int)(c & 1);
    const int k = (q * 1262611 - (is_closer ? 524031 : 0)) >> 22; /* floor(log10(2 ** q)), of 3/4 where it is closer */
    const int shift = q + (-k * 1741647 >> 19) + 1;
    const Power power = powers[-k - LEAST_POWER];
    const uint64_t lower = times(power, (4 * c - 2 + is_closer) << shift) + is_odd;
    const uint64_t middle = times(power, (4 * c) << shift);
    const uint64_t upper = times(power, (4 * c + 2) << shift) - is_odd;

    /* One digit less is enough where just one of two neighbours gives the value back. Without branches, as nobody can
     * foresee them. */
    const uint64_t s = middle / 4, fewer = s / 10, half = 4 * s + 2;
    const int below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    const int is_nearer = (middle > half) | ((middle == half) & (int)(s & 1));
    const int is_below = lower <= 40 * fewer, is_above = 40 * fewer + 40 <= upper;
    const int is_enough = (s >= 10) & (is_below != is_above);
    const uint64_t mask = -(uint64_t)is_enough;
    const uint64_t all = s + (below != above ? above : is_nearer);
    return (Decimal){((fewer + is_above) & mask) | (all & ~mask), k + is_enough};
}

/* Eight digits, each in a byte of its own, the first one in the lowest; without the 0x30 of ASCII. */
static inline uint64_t eight_digits(uint64_t number)
{
    const uint64_t fours = number / 10000 | number % 10000 << 32;
    const uint64_t hundreds = (fours * 10486 >> 20) & 0x0000007F0000007F;
    const uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    const uint64_t tens = (twos * 103 >> 10) & 0x000F000F000F000F;
    return tens | (twos - 10 * tens) << 8;
}

static inline void put_eight(char *at, uint64_t digits)
{
    digits |= 0x3030303030303030;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    digits = __builtin_bswap64(digits);
#endif
    memcpy(at, &digits, 8);
}

static const uint64_t tens[] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000, 1000000000000,
    10000000000000, 100000000000000, 1000000000000000, 10000000000000000, 100000000000000000, 1000000000000000000,
    10000000000000000000u};

/* How many digits a number has, which is not 0. */
static inline int length_of(uint64_t number)
{
    const int about = (64 - __builtin_clzll(number)) * 1233 >> 12; /* 1233 / 4096 is the logarithm of 2 */
    return about + (number >= tens[about]);
}

/* The digits of a number, with DIGITS bytes to write in; returns where they end. */
static inline char *put_digits(char *at, uint64_t number)
{
    char text[DIGITS];
    int n = DIGITS;
    do text[--n] = (char)('0' + number % 10);
    while (number /= 10);
    memcpy(at, text + n, DIGITS - n);
    return at + DIGITS - n;
}

/* Writes the digits of a number that has 17; returns how many of them are left without the zeros at their end. */
static inline int put_seventeen(char *at, uint64_t number)
{
    const uint64_t rest = number % tens[16];
    const uint64_t high = eight_digits(rest / tens[8]), low = eight_digits(rest % tens[8]);
    *at = (char)('0' + number / tens[16]);
    put_eight(at + 1, high);
    put_eight(at + 9, low);
    return low ? 17 - __builtin_clzll(low) / 8 : high ? 9 - __builtin_clzll(high) / 8 : 1;
}

/* A decimal of at most 17 digits, with FLOAT_MOST bytes to write in; returns where it ends.
 *
 * Digits are written where they belong in `0.00123`; in `1.23`, those before the point are moved by one.
 */
static inline char *put_decimal(char *at, int is_negative, Decimal decimal)
{
    *at = '-';
    at += is_negative;
    if (!decimal.digits) return (char *)memcpy(at, "0.0", 3) + 3;
    const int all = length_of(decimal.digits), point = all + decimal.exponent; /* how many digits stand before it */
    const uint64_t digits = decimal.digits * tens[17 - all];
    if (-4 <= point && point <= 0) {
        memcpy(at, "0.0000", 6);
        return at + 2 - point + put_seventeen(at + 2 - point, digits);
    }
    const int n = put_seventeen(at + 1, digits), is_large = point < 0 || point > 16, before = is_large ? 1 : point;
    for (int i = 0; i < before; i++) at[i] = at[i + 1];
    at[before] = '.';
    if (!is_large) return at + 1 + (n > point ? n : point + 1);
    at += n > 1 ? n + 1 : 1;
    *at++ = 'e';
    if (point < 1) *at++ = '-';
    return put_digits(at, (uint64_t)(point < 1 ? 1 - point : point - 1));
}

#endif
