import type { ComponentType } from "react";
import type { Json } from "@/api/client";

export interface AdviceProps {
  /** What the form holds at the moment. */
  values: Json;
  /** Fills in what is proposed. */
  put: (values: Json) => void;
}

/** What is told beside a form while one types, by the `advice` of its screen. */
export const ADVICE: Record<string, () => Promise<{ default: ComponentType<AdviceProps> }>> = {
  collision: async () => ({ default: (await import("@/features/account/collision")).CollisionAdvice }),
  numbers: async () => ({ default: (await import("@/features/number-rule/live-example")).LiveExample }),
  prices: async () => ({ default: (await import("@/features/quote/price-advice")).PriceAdvice }),
  times: async () => ({ default: (await import("@/features/calendar/times-advice")).TimesAdvice }),
};
