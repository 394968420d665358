#include "textflag.h"

// func writeBarrierFlag() uintptr
// in: nothing; out: ret; clobbered: R0
TEXT ·writeBarrierFlag(SB), NOSPLIT, $0-8
	MOVD $runtime·writeBarrier(SB), R0
	MOVD R0, ret+0(FP)
	RET
