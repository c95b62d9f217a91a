import { useSyncExternalStore } from "react";

const phone = matchMedia("(max-width: 767px)");

/** True on a phone, where lists are cards and boards one column per swipe. */
export const useNarrow = () =>
  useSyncExternalStore(
    (watcher) => {
      phone.addEventListener("change", watcher);
      return () => phone.removeEventListener("change", watcher);
    },
    () => phone.matches,
  );
