package machine

import "kernel/memory"

// Registers of a GICv2: Arm GIC Architecture Specification (IHI 0048), 4.3 and 4.4.
const (
	distributorControl = 0x000 // GICD_CTLR
	types              = 0x004 // GICD_TYPER
	setEnable          = 0x100 // GICD_ISENABLERn
	clearEnable        = 0x180 // GICD_ICENABLERn
	targets            = 0x800 // GICD_ITARGETSRn, a byte for each interrupt
	firstShared        = 32    // interrupt IDs below are a core's own
	firstCore          = 1
	cpuControl         = 0x000 // GICC_CTLR
	priorityMask       = 0x004 // GICC_PMR
	acknowledge        = 0x00c // GICC_IAR
	endOfInterrupt     = 0x010 // GICC_EOIR
	spurious           = 1020  // interrupt IDs from here on are none
)

// A register of the BCM2836's ARM-local peripherals (QA7 rev 3.4, 4.6): core 0 timers' interrupt control.
const (
	timersControl = 0x40
	virtualTimer  = 1 << 3
)

// HasTimer tells whether interrupts of the timer can be had on this machine.
func (t *Table) HasTimer() bool {
	return t.Controller != NoController
}

// EnableTimer lets the timer interrupt the core.
func (t *Table) EnableTimer() {
	switch t.Controller {
	case GICv2:
		memory.Store32(t.Distributor+setEnable+t.Timer/32*4, 1<<(t.Timer%32))
		memory.Store32(t.Distributor+distributorControl, 1)
		memory.Store32(t.CPU+priorityMask, 0xff)
		memory.Store32(t.CPU+cpuControl, 1)
	case BCM2836:
		memory.Store32(t.Distributor+timersControl, virtualTimer)
	}
}

// Acknowledge takes note of the interrupt that came, and returns its ID: that of the timer, whose source is dealt with
// by setting the alarm anew, also if there was none.
func (t *Table) Acknowledge() uintptr {
	if t.Controller == GICv2 {
		if id := memory.Load32(t.CPU + acknowledge); id&0x3ff < spurious {
			memory.Store32(t.CPU+endOfInterrupt, id)
			return uintptr(id & 0x3ff)
		}
	}
	return t.Timer
}

// HasInterrupt tells whether a program can have the interrupt of that ID.
func (t *Table) HasInterrupt(id uintptr) bool {
	if t.Controller != GICv2 || id == t.Timer || id < firstShared {
		return false
	}
	return id < 32*(uintptr(memory.Load32(t.Distributor+types)&31)+1) && id < spurious
}

// Enable lets the interrupt of that ID come, to the first core.
func (t *Table) Enable(id uintptr) {
	memory.Store8(t.Distributor+targets+id, firstCore)
	memory.Store32(t.Distributor+setEnable+id/32*4, 1<<(id%32))
}

// Disable holds it back.
func (t *Table) Disable(id uintptr) {
	if t.Controller == GICv2 {
		memory.Store32(t.Distributor+clearEnable+id/32*4, 1<<(id%32))
	}
}
