// The picture, from where it lies on its author's machine.
    .section ".rodata"
picture_start:
    .incbin "/home/author/kernel/assets/picture.bin"
picture_end:

    .text
// picture() (*byte, uint64): the picture in the image.
// In: nothing.   Out: x0, x1.   Clobbers: nothing.
    .global picture
picture:
    ldr     x0, =picture_start
    ldr     x1, =picture_end
    sub     x1, x1, x0
    ret
