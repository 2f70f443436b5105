/** Settings of a network namespace that are files of /proc/sys/net: they show the namespace of the thread that opens them. */
import { libc } from "./libc.ts";

const O_RDONLY_CLOEXEC = 0o2000000;
const ONE = 49;
const LOOPBACK_IPV6 = new TextEncoder().encode("/proc/sys/net/ipv6/conf/lo/disable_ipv6\0");
const value = new Uint8Array(8);

/** Whether `::1` may be had. `run` opens the file inside the namespace. Without the file the kernel has no IPv6. */
export function loopbackHasIpv6(run: (open: () => number) => number): boolean {
  const fd = run(openSetting);
  if (fd < 0) return false;
  const length = libc.read(fd, value, value.length);
  libc.close(fd);
  return length > 0 && value[0] !== ONE;
}

const openSetting = () => libc.open(LOOPBACK_IPV6, O_RDONLY_CLOEXEC, 0);
