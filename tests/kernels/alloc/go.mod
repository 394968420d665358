module alloc

go 1.19

require kernel v0.0.0

replace kernel v0.0.0 => ../../../src
