#include "textflag.h"
#include "funcdata.h"

// func storeWatched(shape uint64, canary uintptr) uintptr
// in: shape, canary; out: ret; clobbered: all a Go function may clobber
//
// R25 reaches the barrier as it is set here because storeShape, a few loads and stores
// long, needs no register so high: Go's compiler takes the lowest free one.
TEXT ·storeWatched(SB), 0, $16-24
	NO_LOCAL_POINTERS
	MOVD shape+0(FP), R0
	MOVD R0, 8(RSP)            // the first argument, as ABI0 passes it
	MOVD canary+8(FP), R25
	CALL ·storeShape(SB)
	MOVD R25, ret+16(FP)
	RET
