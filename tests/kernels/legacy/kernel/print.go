package main

func puts(text string) {
	for i := 0; i < len(text); i++ {
		putc(text[i])
	}
}

func putHex(value uint64) {
	for shift := 60; shift >= 0; shift -= 4 {
		putc("0123456789abcdef"[value>>uint(shift)&15])
	}
}
