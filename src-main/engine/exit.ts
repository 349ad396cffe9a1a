/** The end of a process that computed. */

/**
 * Ends the process once everything written to stdout and stderr has left it. Pipes are written in the background, so ending
 * earlier cuts the output of a command short; and an end by `process.exit` skips the unloading of native libraries, which
 * TensorFlow's threads do not survive (its libraries are also pinned, see engines/tensorflow/capi.ts).
 */
export async function exitProcess(code: number): Promise<never> {
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  process.exit(code);
}

/** Resolves when the stream's buffer is empty, or its reader is gone. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((done) => {
    if (stream.destroyed || stream.writableEnded) return done();
    stream.once('error', () => done());
    stream.write('', () => done());
  });
}
