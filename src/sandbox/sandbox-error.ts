/** Something that a person can put right: its message is one line that says what to do, shown without a stack. */
export class SandboxError extends Error {
  override readonly name = 'SandboxError'
}
