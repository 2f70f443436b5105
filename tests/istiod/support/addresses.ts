/** Addresses of the lab: nodes and pods, both families. Pods' addresses may be handed out again, as a real network plugin does. */

/** Of the control plane's node. */
export const CONTROL_ADDRESSES = ["10.240.0.2", "fd00:240::2"] as const;

export class Addresses {
  #nodes = 9;
  #pods = 0;

  nextNode(): readonly string[] {
    const number = ++this.#nodes;
    return [`10.240.0.${number}`, `fd00:240::${number.toString(16)}`];
  }

  nextPod(): readonly string[] {
    const number = ++this.#pods;
    return [`10.244.${number >> 8}.${number & 255}`, `fd00:244::${number.toString(16)}`];
  }
}
