// The operation and its numbers are named as in "Semihosting for AArch32 and AArch64".

#include "textflag.h"

// The trap of A64 code: W0 holds the operation, X1 its parameter.
#define TRAP HLT $0xf000

// SYS_EXIT: X1 points to two doublewords, the reason and the exit status.
#define SYS_EXIT 0x18

// The reason: the program ended of its own will.
#define ADP_STOPPED_APPLICATION_EXIT 0x20026

// func Exit(status int32)
// in: status; out: nothing, and it should not come back; clobbered: R0, R1
TEXT ·Exit(SB), NOSPLIT, $16-4
	MOVD $ADP_STOPPED_APPLICATION_EXIT, R0
	MOVD R0, reason-16(SP)                 // the first doubleword
	MOVW status+0(FP), R0                  // LDRSW: the second is 64 bits wide as well
	MOVD R0, code-8(SP)
	MOVD $reason-16(SP), R1
	MOVD $SYS_EXIT, R0
	TRAP
	RET
