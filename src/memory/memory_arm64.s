// One access each, of the width in the name, by a single register and without
// write-back. Arguments and results are on the stack: Go's assembly functions use ABI0.
//
// There are no barrier instructions: accesses to one device keep their order by the
// memory's type (Arm ARM, "Device memory").

#include "textflag.h"

// func Load8(address uintptr) uint8
// in: address; out: ret; clobbered: R0, R1
TEXT ·Load8(SB), NOSPLIT, $0-9
	MOVD  address+0(FP), R0
	MOVBU (R0), R1            // LDRB: one byte, zero-extended
	MOVB  R1, ret+8(FP)
	RET

// func Load32(address uintptr) uint32
// in: address; out: ret; clobbered: R0, R1
TEXT ·Load32(SB), NOSPLIT, $0-12
	MOVD  address+0(FP), R0
	MOVWU (R0), R1            // LDR Wt: four bytes, zero-extended
	MOVW  R1, ret+8(FP)
	RET

// func Load64(address uintptr) uint64
// in: address; out: ret; clobbered: R0, R1
TEXT ·Load64(SB), NOSPLIT, $0-16
	MOVD address+0(FP), R0
	MOVD (R0), R1             // LDR Xt: eight bytes
	MOVD R1, ret+8(FP)
	RET

// func Store8(address uintptr, value uint8)
// in: address, value; out: memory; clobbered: R0, R1
TEXT ·Store8(SB), NOSPLIT, $0-9
	MOVD  address+0(FP), R0
	MOVBU value+8(FP), R1
	MOVB  R1, (R0)            // STRB: one byte
	RET

// func Store32(address uintptr, value uint32)
// in: address, value; out: memory; clobbered: R0, R1
TEXT ·Store32(SB), NOSPLIT, $0-12
	MOVD  address+0(FP), R0
	MOVWU value+8(FP), R1
	MOVW  R1, (R0)            // STR Wt: four bytes
	RET

// func Store64(address uintptr, value uint64)
// in: address, value; out: memory; clobbered: R0, R1
TEXT ·Store64(SB), NOSPLIT, $0-16
	MOVD address+0(FP), R0
	MOVD value+8(FP), R1
	MOVD R1, (R0)             // STR Xt: eight bytes
	RET
