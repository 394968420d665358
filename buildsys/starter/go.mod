// The module of the kernel: its packages are imported as kernel/board, kernel/uart and so on.
module kernel

// The oldest release of Go this code is for; buildsys brings the one it is compiled with.
go 1.19
