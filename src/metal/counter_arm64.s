#include "textflag.h"

// func Counter() uint64
// Out: the result. Clobbers: R0. Arm ARM: CNTVCT_EL0, read in program order.
TEXT ·Counter(SB), NOSPLIT, $0-8
	ISB	$15
	MRS	CNTVCT_EL0, R0
	MOVD	R0, ret+0(FP)
	RET

// func Frequency() uint64
// Out: the result, in Hz. Clobbers: R0. Arm ARM: CNTFRQ_EL0.
TEXT ·Frequency(SB), NOSPLIT, $0-8
	MRS	CNTFRQ_EL0, R0
	MOVD	R0, ret+0(FP)
	RET
