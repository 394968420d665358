// The module of the program; it may require others.
module program

// The oldest release of Go this code is for; buildsys brings the one it is compiled with.
go 1.21
