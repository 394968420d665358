#include "textflag.h"

// func off()
// In: -. Out: does not return. Arm semihosting (2.0), SYS_EXIT_EXTENDED, 0x20: the reason
// ADP_Stopped_ApplicationExit, and status 0.
TEXT ·off(SB), NOSPLIT, $0-0
	MOVD	$0x20, R0
	MOVD	$·stopped(SB), R1
	WORD	$0xd45e0000	// hlt #0xf000

DATA ·stopped+0(SB)/8, $0x20026
DATA ·stopped+8(SB)/8, $0
GLOBL ·stopped(SB), RODATA, $16

// func lock()
// In: -. Out: does not return. The program runs at EL1: interrupts are its own to mask (Arm ARM, DAIF).
TEXT ·lock(SB), NOSPLIT, $0-0
	WORD	$0xd50342df	// msr daifset, #2
stay:
	B	stay
