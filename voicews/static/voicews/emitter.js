/**
 * Named events with typed arguments; a failing handler disturbs nobody else.
 */

/** @template {{ [name: string]: (...args: any[]) => void }} Events */
export class Emitter {
  /** @type {Map<keyof Events, Set<(...args: any[]) => void>>} */
  #handlers = new Map();

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} handler
   * @returns {() => void} takes the handler off again
   */
  on(name, handler) {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(handler));
    return () => {
      handlers.delete(handler);
    };
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Parameters<Events[Name]>} args
   */
  emit(name, ...args) {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) {
      try {
        handler(...args);
      } catch (error) {
        // Rethrown from a task of its own: the page's error reporting sees it, the call goes on.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}
