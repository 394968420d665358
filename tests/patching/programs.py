"""The C programs of these tests. CALLED and POINTED say what is called where `old` is, so that a program can
be built with the replacement written in."""

from __future__ import annotations

PRELUDE = r"""
#ifndef CALLED
#define CALLED old
#endif
#ifndef POINTED
#define POINTED old
#endif
#ifndef ORIGINAL
#define ORIGINAL original_old
#endif
#ifndef FAR_OLD
#define FAR_OLD
#endif
#ifndef FAR_NEW
#define FAR_NEW
#endif
#ifndef DISTANT
#define DISTANT FAR
#endif
#define SELF __attribute__((noinline))
#define FAR __attribute__((noinline, section(".far")))
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))
extern int original_old(int) __asm__("original.old");
int old(int), fresh(int), passing(int);
SELF void put(char c) { *(volatile unsigned *)0x09000000 = c; }
SELF void number(int n) { if (n > 9) number(n / 10); put('0' + n % 10); }
SELF void line(const char *text, int n) { while (*text) put(*text++); put(' '); number(n); put('\n'); }
"""

# Direct calls, tail calls, a pointer in data, an address formed in code, recursion.
SHAPES = (
    PRELUDE
    + r"""
SELF FAR_OLD int old(int x) { OPAQUE(x); put('o'); return x + 1; }
SELF FAR_NEW int fresh(int x) { OPAQUE(x); put('n'); return 3 * x; }
SELF FAR_NEW int passing(int x) { OPAQUE(x); put('p'); return ORIGINAL(x) + 1000; }
SELF int tail(int x) { OPAQUE(x); return CALLED(x + 10); }
SELF int twice(int x) { int y = CALLED(x); return CALLED(y) + CALLED(x); }
SELF int deep(int x) { OPAQUE(x); return x < 3 ? CALLED(x) : deep(x - 1) + CALLED(x); }
DISTANT int distant(int x) { OPAQUE(x); return CALLED(x) + 7; }
DISTANT int distant_tail(int x) { OPAQUE(x); return CALLED(x + 20); }
int (*volatile table[2])(int) = { POINTED, tail };
SELF int through(int (*f)(int), int x) { OPAQUE(f); return f(x); }
int main(void) {
    line("direct", CALLED(1));
    line("tail", tail(2));
    line("twice", twice(3));
    line("deep", deep(9));
    line("distant", distant(4));
    line("distant tail", distant_tail(5));
    line("table", table[0](6) + table[1](7));
    line("formed", through(POINTED, 8));
    return 0;
}
"""
)

# Two functions of one name, local to their files.
FIRST = (
    PRELUDE
    + r"""
int second(int);
static SELF int helper(int x) { OPAQUE(x); put('1'); return x + 100; }
SELF int replaced(int x) { OPAQUE(x); put('r'); return x + 500; }
volatile int one = 1; // a local function may be made for the one argument it is ever called with
int main(void) { line("first", helper(one)); line("second", second(2)); return 0; }
"""
)
SECOND = r"""
extern void put(char);
static __attribute__((noinline)) int helper(int x) { __asm__ volatile("" : "+r"(x)); put('2'); return x + 200; }
int second(int x) { return helper(x) + helper(x + 1); }
"""
