/** The two files that make up the TensorFlow engine. */

/** Names of the two libraries on this platform, framework first (the other depends on it). */
export function libraryNames(platform: NodeJS.Platform = process.platform): readonly [string, string] {
  return platform === 'darwin'
    ? ['libtensorflow_framework.2.dylib', 'libtensorflow_cc.2.dylib']
    : ['libtensorflow_framework.so.2', 'libtensorflow_cc.so.2'];
}
