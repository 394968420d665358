package main

import "legacy/bits"

// ecam is where QEMU's virt has the configuration space of PCI, without high memory.
const ecam = 0x3f000000

// configAddress is the address of a register of a function of a device.
func configAddress(bus, device, function, register uint32) uintptr {
	return ecam + uintptr(bits.Field(bus, 20)|bits.Field(device, 15)|bits.Field(function, 12)|register)
}
