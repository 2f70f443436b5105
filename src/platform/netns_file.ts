/** Files of /proc that show the network namespace of the thread that opens them, and nothing else. */
import { errnoWord, libc } from "./libc.ts";
import { insideNamespace } from "./netns.ts";

const O_RDONLY_CLOEXEC = 0o2000000;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** Such files are a few lines. */
const buffer = new Uint8Array(new ArrayBuffer(4096));

/** The beginning of a file as the namespace of this descriptor has it, such as `/proc/thread-self/net/NAME`; `-errno` when it cannot be read. */
export function readInsideNamespace(namespace: number, path: string): string | number {
  const name = encoder.encode(`${path}\0`);
  const fd = insideNamespace(namespace, () => {
    const opened = libc.open(name, O_RDONLY_CLOEXEC, 0);
    return opened < 0 ? -errnoWord[0] : opened;
  });
  if (fd < 0) return fd;
  const length = libc.read(fd, buffer, buffer.length);
  const code = length < 0 ? errnoWord[0] : 0;
  libc.close(fd);
  return length < 0 ? -code : decoder.decode(buffer.subarray(0, length));
}
