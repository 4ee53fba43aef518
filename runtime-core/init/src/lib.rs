//! The program that runs inside a new container before `execve(2)`.
#![no_std]
